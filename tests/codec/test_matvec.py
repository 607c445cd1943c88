"""Products with matrices that stay coded are those with what they decode to."""

import numpy as np
import pytest

from hwprune.codec.decoder.budget import Budget
from hwprune.codec.decoder.container import DecodeError
from hwprune.codec.decoder.matvec import matvec
from hwprune.codec.decoder.shared import read_shared
from hwprune.codec.shared import encode_shared, tell


def _case(shape, density, seed=0):
    rng = np.random.default_rng(seed)
    index = np.where(rng.random(shape) < density, rng.integers(1, 16, shape), 0)
    centroids = rng.normal(size=16).astype(np.float32)
    return index.astype(np.uint16), centroids, rng.normal(size=shape[1] * shape[2])


def _section(*arrays):
    content = encode_shared([tell(a, "a", True) for a in arrays])
    return read_shared(memoryview(content), Budget(1 << 24))


@pytest.mark.parametrize("background", [0.0, 0.25])
@pytest.mark.parametrize("density", [1, 0.05, 0])
@pytest.mark.parametrize("shape", [(300, 50, 9), (1, 70, 1), (5000, 3, 1), (1, 1, 1)])
def test_the_product_is_that_of_the_dense_matrix(shape, density, background):
    index, centroids, x = _case(shape, density)
    centroids[0] = background
    other = _case((9, 8, 7), 0.5)[0]
    found = matvec(_section(other, index), 1, centroids, x)
    wanted = centroids.astype(np.float64)[index].reshape(shape[0], -1) @ x
    scale = np.abs(centroids.astype(np.float64)[index].reshape(shape[0], -1)) @ np.abs(x)
    assert np.all(np.abs(found - wanted) <= 1e-12 * scale)


def test_both_forms_were_tried():
    sections = [_section(_case((300, 50, 9), density)[0]) for density in (1, 0.05)]
    assert [bool(s.matrices[0].reach) for s in sections] == [False, True]


@pytest.mark.parametrize("density", [1, 0.05])
def test_an_index_without_a_value_is_damage(density):
    index, centroids, x = _case((60, 50, 1), density)
    with pytest.raises(DecodeError, match="no value"):
        matvec(_section(index), 0, centroids[:9], x)


def test_a_vector_of_another_size_is_refused():
    index, centroids, x = _case((6, 5, 1), 1)
    with pytest.raises(ValueError, match="5 columns"):
        matvec(_section(index), 0, centroids, x[:4])
