from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hwprune.errors import DataError, UsageError
from hwprune.frontend.arrays import Input, made_up
from hwprune.frontend.data import DataSet, load_data, split
from hwprune.frontend.normalization import Normalization

SHAPE = (1, 3, 8, 8)
X = Input("x", SHAPE, np.dtype(np.float32))


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3)).astype(np.uint8)


def save(path: Path, **arrays: np.ndarray) -> str:
    np.savez(path, allow_pickle=True, **arrays)
    return str(path)


def test_uint8_images_are_normalised_per_channel(tmp_path: Path, pixels: np.ndarray) -> None:
    norm = Normalization((0.1, 0.2, 0.3), (0.5, 0.25, 2.0))
    data = load_data(save(tmp_path / "d.npz", x=pixels, y=np.arange(40) % 4), SHAPE, norm)
    got = data.batch([7, 3])
    assert got.dtype == np.float32
    for k, i in enumerate((7, 3)):
        for c in range(3):
            expected = (pixels[i, :, :, c] / 255 - norm.mean[c]) / norm.std[c]
            np.testing.assert_allclose(got[k, c], expected, atol=1e-6)


def test_a_network_may_read_channels_last(tmp_path: Path, pixels: np.ndarray) -> None:
    """As exports of Keras and TFLite networks do."""
    norm = Normalization((0.1, 0.2, 0.3), (0.5, 0.25, 2.0))
    path = save(tmp_path / "d.npz", x=pixels)
    first, last = (load_data(path, shape, norm).x for shape in (SHAPE, (1, 8, 8, 3)))
    np.testing.assert_array_equal(last, first.transpose(0, 2, 3, 1))
    ready = save(tmp_path / "f.npz", x=last)
    np.testing.assert_array_equal(load_data(ready, (1, 8, 8, 3)).x, last)
    with pytest.raises(DataError, match="a sample is 3 x 8 x 8, the network reads 5 x 8 x 3"):
        load_data(save(tmp_path / "g.npz", x=first), (1, 5, 8, 3))


def test_scale_one_keeps_raw_pixels(tmp_path: Path, pixels: np.ndarray) -> None:
    data = load_data(save(tmp_path / "d.npz", x=pixels), SHAPE, Normalization(scale=1))
    np.testing.assert_array_equal(data.x, pixels.transpose(0, 3, 1, 2))
    assert not data.labelled


def test_float_inputs_pass_unchanged(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(5, 3, 8, 8))
    data = load_data(save(tmp_path / "d.npz", x=x), SHAPE, Normalization((9.0,), (9.0,)))
    np.testing.assert_array_equal(data.x, x.astype(np.float32))


@pytest.mark.parametrize("grey", [np.uint8, np.float32])
def test_grey_is_repeated_for_a_colour_network(tmp_path: Path, grey: type[np.generic]) -> None:
    shape = (4, 8, 8) if grey is np.uint8 else (4, 1, 8, 8)
    x: np.ndarray = np.random.default_rng(0).integers(0, 256, shape).astype(grey)
    got = load_data(save(tmp_path / "d.npz", x=x), SHAPE).x
    assert got.shape == (4, 3, 8, 8)
    np.testing.assert_array_equal(got[:, 0], got[:, 2])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((4, 9, 8, 3), np.uint8)}, "a sample is 3 x 9 x 8.*reads 3 x 8 x 8"),
        ({"x": np.zeros((4, 8, 8, 4), np.uint8)}, "a sample is 4 x 8 x 8"),
        ({"x": np.zeros((4, 8, 8, 3), np.float32)}, "a sample is 8 x 8 x 3"),
        ({"x": np.zeros((4, 5), np.uint8)}, "a sample is 5"),
        ({"x": np.zeros((4, 3, 8, 8), np.int64)}, "x is int64"),
        ({"x": np.zeros((0, 8, 8, 3), np.uint8)}, "no samples"),
        ({"images": np.zeros(3)}, "no array 'x', only images"),
        ({"x": np.full((4, 3, 8, 8), np.nan)}, "4 of 4 samples hold NaN"),
        ({"x": np.zeros((4, 8, 8, 3), np.uint8), "y": np.arange(3)}, "y is int64 3, for 4 samples"),
        ({"x": np.zeros((4, 8, 8, 3), np.uint8), "y": np.ones(4)}, "y is float64"),
        ({"x": np.zeros((4, 8, 8, 3), np.uint8), "y": np.arange(4) + 7}, "labels run from 7 to 10"),
        ({"x": np.zeros((4, 8, 8, 3), np.uint8), "y": np.arange(4) - 1}, "labels run from -1 to 2"),
        ({"x": np.array([{}, None, [], 1], dtype=object)}, "not a readable"),
    ],
)
def test_unusable_arrays_are_explained(
    tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    spec = save(tmp_path / "d.npz", **arrays)
    with pytest.raises(DataError, match=message) as error:
        load_data(spec, SHAPE, classes=10)
    assert "d.npz" in error.value.message


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04" + b"\0" * 50])
def test_damaged_npz(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "d.npz").write_bytes(content)
    with pytest.raises(DataError, match="not a readable"):
        load_data(str(tmp_path / "d.npz"), SHAPE)


def test_truncated_npz(tmp_path: Path, pixels: np.ndarray) -> None:
    path = Path(save(tmp_path / "d.npz", x=pixels))
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(DataError, match="not a readable"):
        load_data(str(path), SHAPE)


def test_a_bare_array_is_no_data_set(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", np.zeros(3))
    with pytest.raises(DataError, match="not a readable"):
        load_data(str(tmp_path / "d.npy"), SHAPE)


def test_missing_data() -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        load_data("nowhere/at/all.npz", SHAPE)


def test_wrong_number_of_means(tmp_path: Path, pixels: np.ndarray) -> None:
    with pytest.raises(DataError, match="mean has 2 values for 3 channels"):
        load_data(save(tmp_path / "d.npz", x=pixels), SHAPE, Normalization((0.1, 0.2)))


def test_folder_of_class_folders(tmp_path: Path) -> None:
    for name, value in (("b_dog", 200), ("a_cat", 50)):
        (tmp_path / name).mkdir()
        for i in range(2):
            Image.new("RGB", (20, 12), (value, value, value)).save(tmp_path / name / f"{i}.png")
    (tmp_path / "a_cat" / "notes.txt").write_text("not an image")
    data = load_data(str(tmp_path), SHAPE, classes=2)
    assert data.x.shape == (4, 3, 8, 8)
    np.testing.assert_array_equal(data.y, [0, 0, 1, 1])
    np.testing.assert_allclose(data.x[:, 0, 0, 0] * 255, [50, 50, 200, 200], atol=1e-3)


def test_folder_without_or_with_broken_images(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    with pytest.raises(DataError, match="no images in 1 class folders"):
        load_data(str(tmp_path), SHAPE)
    (tmp_path / "cat" / "x.png").write_bytes(b"not a png")
    with pytest.raises(DataError, match="png cannot be read"):
        load_data(str(tmp_path), SHAPE)


class _Pairs(torch.utils.data.Dataset):  # type: ignore[type-arg]
    def __len__(self) -> int:
        return 6

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return torch.full((3, 8, 8), float(i)), i % 2


def test_factory_of_a_torch_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_pairs.py").write_text("made = None\ndef pairs(): return made()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import own_pairs  # type: ignore[import-not-found]

    own_pairs.made = _Pairs
    data = load_data("own_pairs:pairs", SHAPE, classes=2)
    np.testing.assert_array_equal(data.x[:, 0, 0, 0], np.arange(6))
    np.testing.assert_array_equal(data.y, [0, 1] * 3)
    with pytest.raises(UsageError, match="no factory 'pears'") as error:
        load_data("own_pairs:pears", SHAPE)
    assert "pairs" in error.value.hint
    with pytest.raises(UsageError, match="no module 'own_peers'"):
        load_data("own_peers:pairs", SHAPE)


def test_digits_are_enlarged_and_split_for_good() -> None:
    data = load_data("digits", (1, 1, 24, 24), classes=10)
    assert data.batch([0]).shape == (1, 1, 24, 24)
    first, second = split(data, seed=1), split(data, seed=2)
    assert [len(p) for p in (first.train, first.search, first.eval)] == [1000, 437, 360]
    np.testing.assert_array_equal(first.eval.raw, second.eval.raw)
    for part in (first.train, first.search, first.eval):
        counts = np.bincount(np.asarray(part.y)) / len(part)
        assert counts.min() > 0.08
        assert counts.max() < 0.12


def test_a_limit_keeps_digits_parts_apart() -> None:
    whole, few = (split(load_data("digits", (1, 1, 8, 8), limit=n)) for n in (None, 90))
    assert 80 <= len(few.train) + len(few.search) + len(few.eval) <= 90
    for part in ("train", "search", "eval"):
        few_part, whole_part = getattr(few, part), getattr(whole, part)
        np.testing.assert_array_equal(few_part.raw, whole_part.raw[: len(few_part)])


def ids(data: DataSet) -> set[int]:
    return {int(v) for v in data.raw[:, 0]}


def numbered(n: int, start: int = 0) -> DataSet:
    x = np.arange(start, start + n, dtype=np.float32)[:, None]
    return DataSet(x, np.arange(n) % 5)


@pytest.mark.parametrize("seed", range(3))
def test_one_source_is_divided_without_overlap(seed: int) -> None:
    parts = split(numbered(100), seed=seed)
    found = [ids(parts.train), ids(parts.search), ids(parts.eval)]
    assert [len(f) for f in found] == [30, 20, 50]
    assert set().union(*found) == set(range(100))
    assert np.bincount(np.asarray(parts.eval.y)).tolist() == [10] * 5


def test_two_sources_keep_eval_whole() -> None:
    parts = split(None, numbered(100), numbered(10, 1000))
    assert ids(parts.eval) == set(range(1000, 1010))
    assert len(parts.search) == 25
    assert ids(parts.search) | ids(parts.train) == set(range(100))
    assert len(split(None, numbered(50_000), numbered(10)).search) == 2000


def test_too_little_to_split() -> None:
    with pytest.raises(DataError, match="5 samples are too few"):
        split(numbered(5))
    with pytest.raises(DataError, match="no data"):
        split(None)


def test_synthetic_is_seeded() -> None:
    a, b, c = (made_up([X], 5, seed).x for seed in (0, 0, 1))
    assert a.shape == (5, 3, 8, 8)
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - c).max() > 0.1
