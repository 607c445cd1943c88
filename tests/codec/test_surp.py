"""What successive refinement claims, on files as they are on disk."""

import hashlib
import shutil
import struct
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import hwprune.codec.decoder
from hwprune.codec.container import fold_document, write_sections
from hwprune.codec.decoder import DecodeError, decode
from hwprune.codec.decoder.container import HEAD, document, sections
from hwprune.codec.decoder.refinement import CHUNK
from hwprune.codec.rate import finest_within
from hwprune.codec.skeleton import holes
from hwprune.codec.surp import Stop, Surp
from hwprune.codec.weights import weights

COUNT, FULL = 100_000, Stop()


def chain(*matrices: np.ndarray) -> bytes:
    """A model that multiplies by one matrix after the other, with a shift that is kept exactly."""
    nodes, fixed, last = [], [], "x"
    for i, values in enumerate(matrices):
        fixed.append(numpy_helper.from_array(values, f"w{i}"))
        nodes.append(helper.make_node("MatMul", [last, f"w{i}"], [f"y{i}"]))
        last = f"y{i}"
    kind = fixed[0].data_type
    shift = np.arange(matrices[-1].shape[1]).astype(matrices[-1].dtype)
    fixed.append(numpy_helper.from_array(shift, "shift"))
    nodes.append(helper.make_node("Add", [last, "shift"], ["y"]))
    ends = [helper.make_tensor_value_info(name, kind, None) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], fixed)
    return helper.make_model(graph).SerializeToString()


def refined(model: bytes, stop: Stop = FULL) -> Surp:
    return Surp(model, weights(onnx.load_model_from_string(model), model, holes(model)), stop)


def laplacian(rows: int, columns: int, scale: float = 1.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).laplace(0, scale, (rows, columns)).astype(np.float32)


def tensors(model: bytes) -> dict[str, np.ndarray]:
    found = onnx.load_model_from_string(model).graph.initializer
    return {t.name: numpy_helper.to_array(t) for t in found}


@pytest.fixture(scope="module")
def small() -> Surp:
    """Two tensors, of which one is a hundred times louder."""
    return refined(chain(laplacian(90, 100), laplacian(100, 70, 100, 1)), Stop(zeros=0.2))


@pytest.fixture(scope="module")
def large() -> tuple[np.ndarray, Surp]:
    weight = laplacian(COUNT // 250, 250)
    return weight, refined(chain(weight), Stop(zeros=0.4))


def at(surp: Surp, zeros: float) -> int:
    """So many chunks that no more than this share is zero."""
    return 1 + next(i for i, step in enumerate(surp.refined.steps) if step.zeros <= zeros)


def borders(file: bytes) -> list[int]:
    """Where each chunk ends; first, where the head of the refinement does."""
    found = [s for s in sections(file) if s.kind == b"R"]
    return [s.offset + HEAD.size + len(s.content) + 4 for s in found]


def zeros(model: bytes) -> float:
    weights = np.concatenate([v.ravel() for n, v in tensors(model).items() if n != "shift"])
    return float((weights == 0).mean())


def test_weights_only_grow_and_what_is_lacking_falls(small):
    true = tensors(chain(laplacian(90, 100), laplacian(100, 70, 100, 1)))
    means = {name: np.abs(true[name]).mean() for name in ("w0", "w1")}
    last, before = 1.0, {name: np.zeros_like(true[name]) for name in means}
    for chunks, step in enumerate(small.refined.steps, 1):
        found = tensors(small.decoded(chunks))
        np.testing.assert_array_equal(found["shift"], true["shift"])
        lacking = 0.0
        for name, mean in means.items():
            own, whole = found[name], true[name]
            assert (own * whole >= 0).all()
            assert (np.abs(own) <= np.abs(whole)).all()
            assert (np.abs(own) >= np.abs(before[name])).all()
            lacking += float(np.abs(whole - own).sum(dtype=np.float64) / mean)
            before[name] = own
        lacking /= 90 * 100 + 100 * 70
        assert lacking < last
        assert lacking == pytest.approx(step.distortion, rel=1e-3)
        assert zeros(small.decoded(chunks)) == pytest.approx(step.zeros)
        last = lacking
    assert chunks > 10


def test_a_file_that_is_cut_behind_a_chunk_is_the_model_of_that_many(small):
    count = small.chunks
    file, shares, empty = small.pack(count).file, [0.0], [1.0]
    assert decode(file).complete
    assert decode(file).model == small.decoded(count)
    for chunks, end in enumerate(borders(file)[1:], 1):
        found = decode(file[:end])
        assert found.model == small.decoded(chunks)
        assert not found.complete
        shares.append(found.share)
        empty.append(zeros(found.model))
    assert shares[-1] == 1  # all of it is there, but the end of the file
    assert all(a < b for a, b in pairwise(shares))
    assert all(a >= b for a, b in pairwise(empty))
    assert empty[-1] <= 0.2


def test_a_file_that_is_cut_anywhere_is_the_model_of_its_whole_chunks(small):
    count = small.chunks
    file = small.pack(count).file
    ends = borders(file)
    models = {n: small.decoded(n) for n in range(1, count + 1)}
    for cut in np.random.default_rng(0).integers(ends[1], len(file), 40).tolist():
        whole = sum(end <= cut for end in ends) - 1
        found = decode(file[:cut])
        assert found.model == models[whole]
        assert 0 < found.share <= 1
        assert not found.complete
    for cut in (0, 5, 30, ends[0] - 1, ends[0], ends[1] - 1):
        with pytest.raises(DecodeError):
            decode(file[:cut])


def test_every_number_of_chunks_is_a_whole_file(small):
    for chunks in (1, 5, small.chunks):
        found = decode(small.pack(chunks).file)
        assert found.complete
        assert (found.codec, found.share) == ("surp", 1)
        assert found.model == small.decoded(chunks)


ALONE = """
import sys, hashlib
class Only:
    def find_spec(self, name, path=None, target=None):
        first = name.partition(".")[0]
        if first not in {*sys.stdlib_module_names, "numpy", "decoder"}:
            raise ImportError(name)
sys.meta_path.insert(0, Only())
sys.path.insert(0, sys.argv[1])
from decoder import decode
found = decode(open(sys.argv[2], "rb").read())
assert "onnx" not in sys.modules and "constriction" not in sys.modules
print(hashlib.sha256(found.model).hexdigest(), found.complete)
"""


def test_the_decoder_alone_tells_every_bit_in_another_process(large, tmp_path):
    _, surp = large
    shutil.copytree(Path(hwprune.codec.decoder.__file__).parent, tmp_path / "decoder")
    chunks = at(surp, 0.8)
    (tmp_path / "model.hwp").write_bytes(surp.pack(chunks).file)
    command = [sys.executable, "-I", "-c", ALONE, str(tmp_path), str(tmp_path / "model.hwp")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == [hashlib.sha256(surp.decoded(chunks)).hexdigest(), "True"]


@pytest.mark.parametrize("share", [0.95, 0.8, 0.5])
def test_a_file_is_near_the_bound_of_rate_and_distortion(large, share, tmp_path):
    """log2(1 / (lambda D)) bits of a Laplacian weight; signs are not part of it."""
    weight, surp = large
    path = tmp_path / "model.hwp"
    path.write_bytes(surp.pack(at(surp, share)).file)
    file = path.read_bytes()
    found = tensors(decode(file).model)["w0"]
    distortion = float(np.abs(found - weight).mean() / np.abs(weight).mean())
    signs, start = np.count_nonzero(found), borders(file)[0]
    bound = COUNT * np.log2(1 / distortion)
    assert 1.0 <= (8 * (len(file) - start) - signs) / bound < 1.4
    assert (8 * len(file) - signs) / bound < 2.0


def test_pruning_by_magnitude_errs_less_at_equal_zeros_and_takes_three_times_the_bits(large):
    weight, surp = large
    file = surp.pack(at(surp, 0.8)).file
    found = tensors(decode(file).model)["w0"]
    distortion = np.abs(found - weight).sum(dtype=np.float64)
    sizes = np.sort(np.abs(weight).ravel().astype(np.float64))
    assert distortion > sizes[: int((found == 0).sum())].sum()
    pruned = int(np.searchsorted(np.cumsum(sizes), distortion))  # errs as much
    assert 32 * (COUNT - pruned) + COUNT > 3 * 8 * len(file)


def test_refinement_stops_where_it_is_told(large):
    weight, _ = large
    model = chain(weight)
    zero = refined(model, Stop(zeros=0.9)).refined.steps
    assert zero[-1].zeros < 0.9 <= zero[-2].zeros
    apart = refined(model, Stop(distortion=0.5)).refined.steps
    assert apart[-1].distortion < 0.5 <= apart[-2].distortion
    bits = refined(model, Stop(bits=1.5)).refined.steps
    size = 8 * sum(len(step.chunk) for step in bits)
    assert size > 1.5 * COUNT >= size - 8 * len(bits[-1].chunk)


def test_weights_without_zeros_are_refined_all_the_same():
    weight = np.random.default_rng(0).uniform(1, 2, (60, 60)).astype(np.float32)
    steps = refined(chain(weight)).refined.steps
    assert steps[-1].zeros == 0
    assert steps[-1].distortion < 0.01


@pytest.mark.parametrize("size", [3000, 10_000, 12_345])
def test_a_search_over_coarseness_ends_with_the_most_chunks_that_fit(large, size):
    _, surp = large

    found, fitting = finest_within(surp, 8 * size / (COUNT + 250))
    chunks = len(borders(found.file)) - 1
    assert fitting
    more = surp.pack(chunks + 1 + surp.chunks // 256).file
    assert len(found.file) <= size
    assert len(found.file) >= 0.995 * size or len(more) > size
    assert decode(found.file).model == found.model == surp.decoded(chunks)
    assert found.elements == COUNT + 250


def test_the_ends_of_coarseness_are_all_chunks_and_one(small):
    assert small.at(0.0).file == small.pack(small.chunks).file
    assert small.at(1.0).file == small.pack(1).file


def test_chunks_are_many_and_what_stands_around_them_is_little(large):
    weight, surp = large
    assert refined(chain(weight), Stop(bits=3)).chunks > 50
    ends = borders(surp.pack(surp.chunks).file)
    assert HEAD.size + 4 + CHUNK.size + 2 < 0.05 * np.diff(ends).mean()
    big = refined(chain(laplacian(1500, 1500)), Stop(zeros=0.8))
    ends = borders(big.pack(big.chunks).file)
    assert len(ends) > 50
    assert HEAD.size + 4 + CHUNK.size < 0.005 * np.diff(ends).mean()


def test_halves_and_integers_are_held_as_the_model_holds_them():
    half = chain(laplacian(40, 50).astype(np.float16))
    surp = refined(half, Stop(bits=40))
    found = tensors(decode(surp.pack(surp.chunks).file).model)["w0"]
    true = tensors(half)["w0"].astype(np.float32)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, true, atol=float(np.abs(true).mean()) / 1000)


def quantised(weight: np.ndarray, scales: np.ndarray) -> bytes:
    fixed = [
        numpy_helper.from_array(weight, "q"),
        numpy_helper.from_array(scales, "scale"),
        numpy_helper.from_array(np.zeros(len(scales), np.int8), "zero"),
    ]
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["w"], axis=1),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("x", "y")]
    graph = helper.make_graph(nodes, "q", ends[:1], ends[1:], fixed)
    return helper.make_model(graph).SerializeToString()


def test_integers_are_exact_again_once_refined_to_less_than_half_a_step():
    rng = np.random.default_rng(0)
    weight = np.clip(np.rint(rng.laplace(0, 20, (64, 32))), -127, 127).astype(np.int8)
    model = quantised(weight, rng.uniform(0.5, 1, 32).astype(np.float32))
    surp = refined(model, Stop(bits=40))
    found = [tensors(surp.decoded(k))["q"] for k in (1, surp.chunks)]
    assert 0 < np.count_nonzero(found[0]) < 0.1 * weight.size
    np.testing.assert_array_equal(found[1], weight)
    assert decode(surp.pack(1).file).model == surp.decoded(1)


def test_ternary_weights_are_told_by_one_walk():
    weight = np.sign(laplacian(60, 60)) * (np.arange(3600).reshape(60, 60) % 3 > 0)
    surp = refined(chain(weight.astype(np.float32)), Stop(zeros=0.34))
    assert decode(surp.pack(surp.chunks).file).model == surp.decoded(99)
    assert surp.refined.steps[-1].distortion < 1e-4


@pytest.mark.parametrize("weight", [np.zeros((30, 30), "f4"), np.ones((3, 3), "f4")])
def test_models_without_anything_to_refine_are_exact(weight):
    model = chain(weight)
    found = decode(refined(model).at(0.0).file)
    assert found.complete
    assert found.model == model


def test_the_same_model_gives_the_same_file():
    model = chain(laplacian(50, 60))
    assert refined(model).at(0.3).file == refined(model).at(0.3).file


def rewritten(file: bytes, rng: np.random.Generator, ended: bool) -> bytes:
    """With some of its chunks damaged, lost, twice there or in another order; checksums are right.

    Without its end it has no digest that would tell.
    """
    found = [(s.kind, bytes(s.content)) for s in sections(file)][:-1]
    chunks = [i for i, (kind, _) in enumerate(found) if kind == b"R"]
    for _ in range(rng.integers(1, 4)):
        i, j = rng.choice(chunks, 2)
        content = bytearray(found[i][1])
        where = int(rng.integers(min(len(content), rng.choice([9, 40, 10_000])) or 1))
        match rng.integers(6):
            case 0 if content:
                content[where] ^= 1 << int(rng.integers(8))
            case 1 if content:
                content[where] = int(rng.choice([0, 1, 127, 128, 255]))
            case 2:
                content = content[:where]
            case 3:
                content += rng.bytes(int(rng.integers(1, 9)))
            case 4:
                found[j] = found[i]
            case _:
                content[where : where + 4] = struct.pack("<I", int(rng.integers(1 << 32)))
        found[i] = (b"R", bytes(content))
    whole = write_sections(found)
    return whole if ended else whole[: -(HEAD.size + 4)]


@pytest.mark.parametrize("ended", [True, False])
def test_damage_behind_right_checksums_is_an_error_or_another_model(small, ended):
    file, rng, errors = small.pack(12).file, np.random.default_rng(ended), 0
    size = len(decode(file).model)
    for _ in range(150):
        damaged = rewritten(file, rng, ended)
        try:
            assert len(decode(damaged).model) == size
        except DecodeError:
            errors += 1
    assert errors > 60


def test_a_chunk_with_a_wrong_checksum_is_named(small):
    file = bytearray(small.pack(5).file)
    file[borders(bytes(file))[2] - 30] ^= 1
    with pytest.raises(DecodeError, match="checksum"):
        decode(bytes(file))


@pytest.mark.parametrize(
    ("field", "value", "good"),
    [
        ("unit", float("nan"), True),
        ("unit", float("inf"), True),
        ("unit", -1e300, True),
        ("unit", None, False),
        ("unit", [1.0], False),
        ("shape", [90, 100, -1], False),
        ("shape", [90, 100], False),
        ("shape", [1 << 40, 1 << 40, 1], False),
        ("shape", [90, 100, 3], False),
        ("dtype", "float16", False),
        ("dtype", "object", False),
    ],
)
def test_odd_descriptions_are_errors_or_another_model(small, field, value, good):
    found = [(s.kind, bytes(s.content)) for s in sections(small.pack(2).file)][:-1]
    header = document(found[0][1])
    entry = next(e for e in header["tensors"] if e["form"] == "refined")
    entry[field] = value
    file = write_sections([(b"H", fold_document(header)), *found[1:]])[: -(HEAD.size + 4)]
    if good:
        assert len(decode(file).model) == header["bytes"]
        return
    with pytest.raises(DecodeError):
        decode(file)
