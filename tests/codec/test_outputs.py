"""Weights that are rounded side by side are what each of them is alone."""

import numpy as np
import pytest
import torch
from onnx import helper

from hwprune.codec.outputs import Product, for_outputs
from hwprune.codec.products import matrix, places
from hwprune.codec.weights import Weight
from hwprune.quantize.gptq import inverse


def _product(seed, shape, **attributes):
    rng = np.random.default_rng(seed)
    operator = "Conv" if len(shape) > 2 else "MatMul"
    node = helper.make_node(operator, ["x", "w"], ["y"], **attributes)
    values = rng.laplace(size=(shape[0], shape[1], int(np.prod(shape[2:])))).astype(np.float32)
    weight = Weight(seed, f"w{seed}", "float32", shape, values, node, "x", None)
    parts, _, columns = matrix(weight, values).shape
    rows = rng.normal(size=(parts, 2 * columns, columns)).cumsum(2).astype(np.float32)
    moment = torch.from_numpy(rows.swapaxes(1, 2) @ rows)
    return Product(weight, 0.3 + 0.1 * seed, inverse(moment, places(weight)))


PRODUCTS = [
    _product(0, (20, 30)),
    _product(1, (300, 8, 3, 3)),
    _product(2, (12, 1, 3, 3), group=12),
    _product(3, (1100, 10)),
    _product(4, (70, 6, 1, 1)),
]


def test_side_by_side_is_as_alone():
    for product, found in zip(PRODUCTS, for_outputs(PRODUCTS), strict=True):
        [alone] = for_outputs([product])
        assert found.shape == product.weight.values.shape
        np.testing.assert_array_equal(found, alone)


@pytest.mark.parametrize("product", PRODUCTS, ids=lambda product: product.weight.name)
def test_rows_of_half_precision_cost_next_to_nothing(product):
    def lost(given):
        [numbers] = for_outputs([given])
        points = (numbers >> 1) - np.sign(numbers >> 1) * (numbers & 1) / 2
        error = matrix(given.weight, given.weight.values - points * given.step)
        factor = product.known.rows.double() * product.known.spreads.double()[:, :, None]
        root = torch.linalg.inv(factor).numpy()  # H = root root'
        return np.square(error[:, :, product.known.order.numpy()] @ root).sum()

    halved = Product(product.weight, product.step, product.known.half())
    assert lost(halved) < 1.05 * lost(product)


def test_places_are_rounded_in_their_order():
    rng = np.random.default_rng(0)
    values = np.repeat(rng.normal(size=(40, 30, 1)), 9, 2) + 0.1 * rng.normal(size=(40, 30, 9))
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    weight = Weight(0, "w", "float32", (40, 30, 3, 3), values.astype(np.float32), node, "x", None)
    rows = rng.normal(size=(1, 600, 270)).astype(np.float32)
    moment = torch.from_numpy(rows.swapaxes(1, 2) @ rows)
    product = Product(weight, 0.2, inverse(moment, 9))
    assert product.foretold is not None
    assert len(list(for_outputs([product]))) == 1
    with pytest.raises(ValueError, match="9 places"):
        list(for_outputs([Product(weight, 0.2, inverse(moment))]))
