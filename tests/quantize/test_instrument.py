from collections.abc import Callable

import onnx_graphsurgeon as gs
import pytest
import torch
from torch import fx

from hwprune.network.run import outputs
from hwprune.quantize.instrument import frozen_twin
from hwprune.quantize.noise import sqnr_db
from hwprune.testing.networks import build, flat_head, residual, separable


@pytest.fixture(scope="module")
def graph() -> gs.Graph:
    return build(residual, separable, head=flat_head)


@pytest.mark.parametrize(("name", "bits"), [("max", 8), ("mse", 3), ("xnor", 1)])
def test_a_frozen_twin_computes_the_same(
    graph: gs.Graph,
    images: torch.Tensor,
    instrumented: Callable[..., fx.GraphModule],
    name: str,
    bits: int,
) -> None:
    module = instrumented(graph, name, bits)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    found, expected = outputs(frozen_twin(module), images)[0], outputs(module, images)[0]
    assert sqnr_db(expected, found) > 60  # but for ties
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key])
