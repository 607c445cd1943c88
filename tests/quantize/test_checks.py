"""Bad input is named before anything is written; a mere handicap is told of."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest
import torch

from hwprune.backend import Capabilities
from hwprune.errors import DataError, ModelError
from hwprune.graph.cost import weighted_nodes
from hwprune.quantize.checks import check_encodings, exploding_channel
from hwprune.quantize.encodings import Encoding, Encodings
from hwprune.quantize.ptq import Quantized, quantize
from hwprune.testing.networks import build, residual


@pytest.fixture
def graph() -> gs.Graph:
    return build(residual)


def run(graph: gs.Graph, capabilities: Capabilities, x: torch.Tensor) -> Quantized:
    return quantize(graph, {n.name: "int8" for n in graph.nodes}, capabilities, x)


def test_one_sample_is_too_few(
    graph: gs.Graph, capabilities: Capabilities, images: torch.Tensor
) -> None:
    with pytest.raises(DataError, match="1 calibration samples are too few"):
        run(graph, capabilities, images[:1])


def test_constant_samples_are_refused(graph: gs.Graph, capabilities: Capabilities) -> None:
    with pytest.raises(DataError, match="the 8 calibration samples are all the same"):
        run(graph, capabilities, torch.full((8, 3, 8, 8), 0.5))


def test_a_tensor_that_overflows_is_named(
    graph: gs.Graph, capabilities: Capabilities, images: torch.Tensor
) -> None:
    with pytest.raises(DataError, match=r"tensor '.+' becomes NaN or infinite"):
        run(graph, capabilities, images * 1e38)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_broken_weight_is_named(
    graph: gs.Graph, capabilities: Capabilities, images: torch.Tensor, value: float
) -> None:
    node = weighted_nodes(graph)[1]
    node.inputs[1].values[0, 0] = value
    with pytest.raises(ModelError, match=rf"node '{node.name}'.*'{node.inputs[1].name}'"):
        run(graph, capabilities, images)


@pytest.mark.parametrize("scale", [np.nan, np.inf, 0.0])
def test_a_broken_scale_is_named(scale: float) -> None:
    good = Encoding(np.float32(0.5) * np.ones(()), np.zeros((), np.int64))
    bad = Encoding(np.array([1, scale], np.float32), np.zeros(2, np.int64), 0, signed=True)
    check_encodings(Encodings({"a": good}, {}))
    with pytest.raises(ModelError, match="'w'"):
        check_encodings(Encodings({"a": good}, {"w": bad}))


def test_silent_channels_are_told_of_and_quantised(
    graph: gs.Graph, capabilities: Capabilities, images: torch.Tensor
) -> None:
    node = weighted_nodes(graph)[1]
    node.inputs[1].values[2] = 0
    found = run(graph, capabilities, images)
    assert len(found.concerns) == 1
    assert f"node {node.name!r}: the weights of 1 of" in found.concerns[0]
    assert not found.graph.tensors()[node.inputs[1].name].values[2].any()


def test_a_channel_that_dwarfs_the_others_is_told_of(
    graph: gs.Graph, capabilities: Capabilities, images: torch.Tensor
) -> None:
    assert run(graph, capabilities, images).concerns == ()
    images = images.clone()
    images[:, 1] *= 10_000
    concerns = run(graph, capabilities, images).concerns
    assert concerns[0].startswith("tensor 'x': channel 1 reaches")


def test_matrices_have_no_channels() -> None:
    assert exploding_channel(torch.tensor([[1.0, 1000.0]])) is None
