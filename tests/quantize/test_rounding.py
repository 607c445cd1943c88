import copy
from collections.abc import Callable

import numpy as np
import onnx_graphsurgeon as gs
import pytest
import torch
from torch import fx

from hwprune.graph.cost import weighted_nodes
from hwprune.network.run import inputs_of, outputs
from hwprune.network.twin import to_module
from hwprune.quantize.instrument import encodings_of
from hwprune.quantize.noise import sqnr_db
from hwprune.quantize.rounding import round_weights
from hwprune.testing.networks import build, residual, separable

Instrumented = Callable[..., fx.GraphModule]


@pytest.fixture(scope="module")
def graph() -> gs.Graph:
    """Ordinary and depthwise convolutions."""
    return build(residual, separable)


@pytest.mark.parametrize(("bits", "name"), [(4, "mse"), (3, "mse"), (2, "mse"), (1, "xnor")])
def test_brings_outputs_nearer(
    graph: gs.Graph, instrumented: Instrumented, images: torch.Tensor, bits: int, name: str
) -> None:
    exact = outputs(to_module(graph), images)[0]
    plain = instrumented(graph, name, bits)
    rounded = copy.deepcopy(plain)
    round_weights(rounded, inputs_of(images), {n.name for n in weighted_nodes(graph)})
    before, after = (sqnr_db(exact, outputs(m, images)[0]) for m in (plain, rounded))
    assert after > before + 1


@pytest.mark.parametrize(("bits", "name"), [(4, "mse"), (2, "mse"), (1, "xnor")])
def test_weights_lie_on_the_grid_and_scales_stay(
    graph: gs.Graph, instrumented: Instrumented, images: torch.Tensor, bits: int, name: str
) -> None:
    module = instrumented(graph, name, bits)
    scales = {n: e.scale for n, e in encodings_of(module).weights.items()}
    round_weights(module, inputs_of(images), {n.name for n in weighted_nodes(graph)})
    state = module.state_dict()
    for weight, (path, _) in module.meta["quantized_weights"].items():
        encoding = encodings_of(module).weights[weight]
        torch.testing.assert_close(
            torch.from_numpy(encoding.scale), torch.from_numpy(scales[weight])
        )
        value = state[f"{path}.weight"].numpy()
        if encoding.axis != 0:
            continue
        again = encoding.dequantize(encoding.quantize(value))
        np.testing.assert_allclose(again, value, rtol=1e-5)


def test_only_the_named_nodes_change(
    graph: gs.Graph, instrumented: Instrumented, images: torch.Tensor
) -> None:
    module = instrumented(graph, "mse", 4)
    before = copy.deepcopy(module.state_dict())
    last = weighted_nodes(graph)[-1].name
    round_weights(module, inputs_of(images), {last})
    path = next(str(n.target) for n in module.graph.nodes if n.meta.get("node") == last)
    changed = {
        key for key, value in module.state_dict().items() if not torch.equal(value, before[key])
    }
    assert changed == {f"{path}.weight", f"{path}.bias"}


def test_same_seed_same_weights(
    graph: gs.Graph, instrumented: Instrumented, images: torch.Tensor
) -> None:
    nodes = {n.name for n in weighted_nodes(graph)}
    first, second = (instrumented(graph, "mse", 3) for _ in range(2))
    for module in (first, second):
        round_weights(module, inputs_of(images), nodes, seed=5)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
