"""Networks that rewrites apply to, and the oracle: what onnxruntime answers before and after."""

from collections.abc import Callable

import numpy as np
import onnx_graphsurgeon as gs
import pytest
import torch

from hwprune.graph.coupling import couple
from hwprune.graph.slim import slim
from hwprune.network.run import outputs
from hwprune.network.twin import to_module
from hwprune.testing.networks import Builder, build
from hwprune.verify.equality import ROUNDING, difference

PLACES = 64  # pixels of an image, which are tokens
Check = Callable[[gs.Graph, gs.Graph], None]


@pytest.fixture(scope="session")
def images() -> torch.Tensor:
    return torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="session")
def check(images: torch.Tensor) -> Check:
    """`check(before, after)`: the same answers of onnxruntime, of the twins and after pruning."""

    def compare(before: gs.Graph, after: gs.Graph) -> None:
        assert difference(before, after, (images.numpy(),)) <= ROUNDING
        assert _twins(before, after, images) <= ROUNDING
        coupling = couple(after)
        assert sum(g.width for g in coupling.prunable) >= sum(
            g.width for g in couple(before).prunable
        )
        keep = {g.name: range(1, g.width) for g in coupling.prunable if g.width > 2}
        pruned = slim(after, coupling, keep)
        assert difference(pruned, pruned, (images.numpy(),)) == 0  # it runs
        (one,) = outputs(to_module(pruned), images[:1])
        (both,) = outputs(to_module(pruned), images)
        torch.testing.assert_close(both[:1], one, rtol=1e-4, atol=1e-5)

    return compare


def _twins(before: gs.Graph, after: gs.Graph, x: torch.Tensor) -> float:
    (a,), (b,) = (outputs(to_module(graph), x) for graph in (before, after))
    return float((a - b).abs().max() / a.abs().max())


@pytest.fixture(scope="session")
def transformer() -> gs.Graph:
    """Two blocks whose queries, keys and values are one product, and a head that reads a token."""
    return build(encoder, encoder, head=token_head)


def encoder(b: Builder, x: str) -> str:
    """A block of a ViT (Dosovitskiy et al. 2021) on the pixels of an image, two heads of three."""
    tokens = x if b.sizes[x][0] == PLACES else _tokens(b, x)
    size, channels = b.sizes[tokens], b.sizes[tokens][1]
    y = _dense(b, _attention(b, _normed(b, tokens, channels), channels), channels, 6)
    y = b.add("Add", [y, tokens], size)
    z = b.add("Erf", [_dense(b, _normed(b, y, channels), 2 * channels, channels)], size)
    return b.add("Add", [_dense(b, z, channels, 2 * channels), y], size)


def token_head(b: Builder, x: str) -> str:
    """Reads the first pixel of the last block."""
    channels = b.sizes[x][1]
    y = b.add("Gather", [x, b.constant(np.array(0))], (channels, 1, 1), axis=1)
    return b.add("Gemm", [y, b.weight(5, channels), b.vector(5)], (5, 1, 1), transB=1)


def _tokens(b: Builder, x: str) -> str:
    channels = b.sizes[x][0]
    flat = b.add("Reshape", [x, b.constant([0, channels, PLACES])], (channels, PLACES, 1))
    return b.add("Transpose", [flat], (PLACES, channels, 1), perm=[0, 2, 1])


def _attention(b: Builder, x: str, channels: int) -> str:
    size = b.sizes[x]
    y = b.add("MatMul", [x, b.weight(channels, 18)], size)
    y = b.add("Reshape", [y, b.constant([0, PLACES, 3, 2, 3])], size)
    y = b.add("Transpose", [y], size, perm=[2, 0, 3, 1, 4])
    query, key, value = (
        b.add("Gather", [y, b.constant(np.array(i))], size, axis=0) for i in range(3)
    )
    turned = b.add("Transpose", [key], size, perm=[0, 1, 3, 2])
    weights = b.add("Softmax", [b.add("MatMul", [query, turned], size)], size, axis=-1)
    mixed = b.add("MatMul", [weights, value], size)
    joined = b.add("Transpose", [mixed], size, perm=[0, 2, 1, 3])
    return b.add("Reshape", [joined, b.constant([0, PLACES, 6])], size)


def _normed(b: Builder, x: str, channels: int) -> str:
    parameters = [b.vector(channels, low=0.5, high=1.5), b.vector(channels)]
    return b.add("LayerNormalization", [x, *parameters], b.sizes[x], axis=-1)


def _dense(b: Builder, x: str, outputs: int, inputs: int) -> str:
    y = b.add("MatMul", [x, b.weight(inputs, outputs)], b.sizes[x])
    return b.add("Add", [b.vector(outputs), y], b.sizes[x])
