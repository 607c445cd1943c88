"""Weights as matrices, against torch's own products; rows of inputs against its unfold."""

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import helper

from hwprune.codec.products import from_matrix, input_rows, is_product, matrix, multiplications
from hwprune.codec.weights import Weight


def weight(op, shape, seed=0, **attributes):
    """A weight with random values, read by a node with these attributes."""
    values = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    view = (shape[0], shape[1], int(np.prod(shape[2:])))
    node = helper.make_node(op, ["x", "w"], ["y"], **attributes)
    return Weight(0, "w", "float32", shape, values.reshape(view), node, "x", None)


def noise(*shape, seed=9):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


CONVOLUTIONS = {
    "plain": ((6, 4, 3, 3), (2, 4, 8, 7), {}),
    "pads": ((6, 4, 3, 3), (2, 4, 8, 7), {"pads": [1, 2, 0, 1]}),
    "strides": ((6, 4, 3, 2), (2, 4, 9, 8), {"strides": [2, 3], "pads": [1, 1, 1, 1]}),
    "dilations": ((6, 4, 3, 3), (2, 4, 11, 9), {"dilations": [3, 2], "strides": [2, 1]}),
    "groups": ((6, 2, 3, 3), (2, 4, 6, 6), {"group": 2, "pads": [1, 1, 1, 1]}),
    "depthwise": ((4, 1, 3, 3), (2, 4, 6, 6), {"group": 4}),
    "depthwise, twice": ((8, 1, 3, 3), (2, 4, 6, 6), {"group": 4, "strides": [2, 2]}),
    "upper": ((6, 4, 4, 3), (2, 4, 9, 8), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "lower": ((6, 4, 4, 3), (2, 4, 9, 8), {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    "valid": ((6, 4, 3, 3), (2, 4, 9, 8), {"auto_pad": "VALID", "strides": [2, 2]}),
    "1-d": ((6, 4, 5), (2, 4, 20), {"pads": [2, 1], "strides": [3], "dilations": [2]}),
    "3-d": ((6, 4, 2, 3, 2), (2, 4, 4, 6, 5), {"pads": [1, 0, 1, 0, 1, 1], "strides": [1, 2, 1]}),
    "pointwise": ((6, 4, 1, 1), (2, 4, 5, 5), {}),
}


def padded(x, kernel, attributes):
    """By what onnx says of `pads` and `auto_pad`, with torch's pad."""
    spatial = len(kernel)
    strides = attributes.get("strides", [1] * spatial)
    dilations = attributes.get("dilations", [1] * spatial)
    pads = attributes.get("pads", [0] * 2 * spatial)
    mode = attributes.get("auto_pad", "NOTSET")
    if mode.startswith("SAME"):
        sizes = x.shape[2:]
        total = [
            max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
            for n, s, d, k in zip(sizes, strides, dilations, kernel, strict=True)
        ]
        small, large = [t // 2 for t in total], [t - t // 2 for t in total]
        pads = [*small, *large] if mode == "SAME_UPPER" else [*large, *small]
    ends = [e for i in reversed(range(spatial)) for e in (pads[i], pads[i + spatial])]
    return F.pad(torch.from_numpy(x), ends), strides, dilations


def unfolded(x, kernel, attributes):
    """Rows x channels x kernel: torch's unfold, one spatial axis after another."""
    found, strides, dilations = padded(x, kernel, attributes)
    spatial = len(kernel)
    for i, (k, s, d) in enumerate(zip(kernel, strides, dilations, strict=True)):
        found = found.unfold(2 + i, d * (k - 1) + 1, s)[..., ::d]
    order = [0, *range(2, 2 + spatial), 1, *range(2 + spatial, 2 + 2 * spatial)]
    patches = found.permute(order).reshape(-1, x.shape[1], int(np.prod(kernel)))
    return patches.numpy()


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_rows_of_convolutions_equal_unfold(name):
    shape, size, attributes = CONVOLUTIONS[name]
    w, x = weight("Conv", shape, **attributes), noise(*size)
    groups = attributes.get("group", 1)
    found = input_rows(w, x, 10**6, np.random.default_rng(0))
    true = unfolded(x, shape[2:], attributes)
    wanted = true.reshape(len(true), groups, -1).swapaxes(0, 1)
    np.testing.assert_array_equal(found, wanted)
    if len(shape) == 4 and attributes.get("auto_pad") is None and groups == 1:
        image, strides, dilations = padded(x, shape[2:], attributes)
        own = F.unfold(image, shape[2:], dilations, 0, strides)  # samples x columns x positions
        np.testing.assert_array_equal(found[0], own.swapaxes(1, 2).reshape(-1, own.shape[1]))


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_rows_times_the_matrix_are_what_the_convolution_puts_out(name):
    shape, size, attributes = CONVOLUTIONS[name]
    w, x = weight("Conv", shape, **attributes), noise(*size)
    rows = input_rows(w, x, 10**6, np.random.default_rng(0))
    mine = rows @ matrix(w, w.values).swapaxes(1, 2)  # groups x positions x outputs
    image, strides, dilations = padded(x, shape[2:], attributes)
    conv = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[len(shape) - 2]
    kernel = torch.from_numpy(w.values.reshape(shape))
    true = conv(image, kernel, None, strides, 0, dilations, attributes.get("group", 1))
    wanted = true.movedim(1, -1).reshape(mine.shape[1], -1).numpy()
    np.testing.assert_allclose(np.concatenate(mine, axis=1), wanted, atol=1e-4)


PRODUCTS = {
    "MatMul": ("MatMul", (20, 12), {}, (3, 20)),
    "MatMul of sequences": ("MatMul", (20, 12), {}, (2, 5, 20)),
    "Gemm": ("Gemm", (20, 12), {}, (3, 20)),
    "Gemm, turned": ("Gemm", (12, 20), {"transB": 1}, (3, 20)),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_of_matrices(name):
    op, shape, attributes, size = PRODUCTS[name]
    w, x = weight(op, shape, **attributes), noise(*size)
    values = w.values[:, :, 0]
    true = x @ (values.T if "transB" in attributes else values)
    rows = input_rows(w, x, 10**6, np.random.default_rng(0))
    found = rows @ matrix(w, w.values).swapaxes(1, 2)
    np.testing.assert_allclose(found[0], true.reshape(-1, 12), atol=1e-4)


EVERY = {
    **{name: ("Conv", shape, more) for name, (shape, _, more) in CONVOLUTIONS.items()},
    **{name: (op, shape, more) for name, (op, shape, more, _) in PRODUCTS.items()},
    "wide": ("MatMul", (3000, 7), {}),
    "a wide convolution": ("Conv", (6, 400, 3, 3), {}),
}


@pytest.mark.parametrize("name", EVERY)
def test_a_matrix_turns_into_a_weight_again(name):
    op, shape, attributes = EVERY[name]
    w = weight(op, shape, **attributes)
    found = matrix(w, w.values)
    assert found.size == w.values.size
    assert found.shape[2] <= 1024
    np.testing.assert_array_equal(from_matrix(w, found), w.values)


def test_wide_products_are_the_sum_of_narrow_ones():
    w, x = weight("MatMul", (3000, 7)), noise(4, 3000)
    rows = input_rows(w, x, 10**6, np.random.default_rng(0))
    assert rows.shape == (3, 4, 1000)
    parts = rows @ matrix(w, w.values).swapaxes(1, 2)
    np.testing.assert_allclose(parts.sum(0), x @ w.values[:, :, 0], atol=1e-3)


def test_few_rows_are_some_of_all():
    shape, size, attributes = CONVOLUTIONS["pads"]
    w, x = weight("Conv", shape, **attributes), noise(*size)
    every = {row.tobytes() for row in input_rows(w, x, 10**6, np.random.default_rng(0))[0]}
    some = input_rows(w, x, 10, np.random.default_rng(1))[0]
    assert len({row.tobytes() for row in some}) == 10
    assert {row.tobytes() for row in some} <= every


def test_what_is_a_product():
    assert is_product(weight("Conv", (4, 4, 3, 3)))
    assert is_product(weight("Gemm", (4, 4), transA=0))
    assert not is_product(weight("Gemm", (4, 4), transA=1))
    assert not is_product(weight("MatMul", (4, 4, 4)))
    assert not is_product(weight("LSTM", (1, 16, 4), hidden_size=4))
    assert not is_product(weight("ConvTranspose", (4, 4, 3, 3)))
    assert onnx.defs.get_schema("Gemm").attributes["transA"]


@pytest.mark.parametrize("name", ["pads", "groups", "depthwise", "pointwise", "3-d", "strides"])
def test_multiplications_are_those_of_the_outputs(name):
    shape, given, attributes = CONVOLUTIONS[name]
    x, kernel = noise(*given), shape[2:]
    outputs = padded(x, kernel, attributes)[0].shape[2:]
    strides = attributes.get("strides", [1] * len(kernel))
    counted = len(x) * np.prod(shape)
    for size, k, stride in zip(outputs, kernel, strides, strict=True):
        counted *= (size - k) // stride + 1
    found = multiplications(weight("Conv", shape, **attributes), x)
    assert counted / 2.5 <= found <= 2.5 * counted  # borders apart
