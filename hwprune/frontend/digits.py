"""scikit-learn's digits, with the split that the bundled weights were trained on."""

import numpy as np

from hwprune.frontend.dataset import DataSet, balanced_order
from hwprune.frontend.normalization import Normalization

NORMALIZATION = Normalization(mean=(0.3053,), std=(0.3760,))
PARTS = (1000, 437, 360)  # train, search, eval: a fifth is held out, equally many of each class
_SPLIT_SEED = 2024  # part of the data set: another seed would put training images into eval


def load_digits(size: tuple[int, int], normalization: Normalization = NORMALIZATION) -> DataSet:
    """1,797 grey 8 x 8 images enlarged to `size`; training part first, then search, then eval."""
    from sklearn.datasets import load_digits as sklearn_digits

    found = sklearn_digits()
    pixels = np.rint(found.images * (255 / 16)).astype(np.uint8)[..., None]
    whole = DataSet(pixels, found.target.astype(np.int64), normalization, size)
    ordered = whole.select(balanced_order(whole, _SPLIT_SEED))
    return DataSet(ordered.raw, ordered.y, normalization, size, PARTS)
