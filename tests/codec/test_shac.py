"""Whole models whose weights share few values: HAM and sHAM."""

import random
import shutil
import subprocess
import sys
import time
from itertools import pairwise
from math import log2
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import hwprune.codec.decoder
from hwprune.codec.container import fold_document, write_sections
from hwprune.codec.decoder.container import (
    DecodeError,
    document,
    sections,
)
from hwprune.codec.decoder.model import decode
from hwprune.codec.packing import pack_exact
from hwprune.codec.rate import finest_within
from hwprune.codec.shac import Sharing, pack_shared
from hwprune.codec.sharing import QUANTISERS, share
from hwprune.codec.skeleton import holes
from hwprune.codec.weights import weights

AMOUNTS = {"kmeans": 16, "probabilistic": 16, "uniform": 16, "ecsq": 0.02}


def _array(seed, shape, density=1.0, scale=0.1):
    rng = np.random.default_rng(seed)
    found = rng.laplace(size=shape) * scale
    return np.where(rng.random(shape) < density, found, 0).astype(np.float32)


def _model(density=1.0, kind=np.float32, integers=True):
    """Conv (8 bits, a scale for each output), Conv, Gemm (inputs first), MatMul, and a table."""
    arrays = {
        "first": _array(0, (16, 3, 3, 3), density),
        "second": _array(1, (24, 16, 3, 3), density),
        "bias": _array(2, (24,)),
        "gemm": _array(3, (24, 80), density),
        "matmul": _array(4, (80, 64), density, 3.0),
        "table": _array(5, (40, 64)),
    }
    arrays = {name: value.astype(kind) for name, value in arrays.items()}
    nodes = []
    if integers:
        scale = np.abs(arrays["first"]).reshape(16, -1).max(1).astype(np.float32) / 127
        quantised = np.rint(arrays.pop("first") / scale[:, None, None, None])
        arrays |= {"q1": quantised.astype(np.int8), "s1": scale, "z1": np.zeros(16, np.int8)}
        nodes = [helper.make_node("DequantizeLinear", ["q1", "s1", "z1"], ["first"], axis=0)]
    nodes += [
        helper.make_node("Conv", ["x", "first"], ["a"]),
        helper.make_node("Conv", ["a", "second", "bias"], ["b"]),
        helper.make_node("GlobalAveragePool", ["b"], ["c"]),
        helper.make_node("Flatten", ["c"], ["d"]),
        helper.make_node("Gemm", ["d", "gemm"], ["e"]),
        helper.make_node("MatMul", ["e", "matmul"], ["f"]),
        helper.make_node("Mul", ["f", "table"], ["y"]),
    ]
    element = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", element, [1, 3, 9, 9])],
        [helper.make_tensor_value_info("y", element, [40, 64])],
        [numpy_helper.from_array(value, name) for name, value in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()


def _arrays(model):
    graph = onnx.ModelProto.FromString(model).graph
    return {t.name: numpy_helper.to_array(t) for t in graph.initializer}


LOSSY = {"q1", "second", "gemm", "matmul"}


@pytest.mark.parametrize("codec", ["ham", "shac"])
@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("name", QUANTISERS)
def test_weights_share_values_and_all_else_is_kept(name, joint, codec):
    model = _model(density=0.6)
    data = pack_shared(model, codec, name, AMOUNTS[name], joint).file
    found = decode(data)
    assert (found.codec, found.complete) == (codec, True)
    before, after = _arrays(model), _arrays(found.model)
    onnx.checker.check_model(onnx.ModelProto.FromString(found.model))
    for key in before:
        if key not in LOSSY:
            assert before[key].tobytes() == after[key].tobytes()
    floats = [np.unique(after[key]) for key in ("second", "gemm", "matmul")]
    shared = np.unique(np.concatenate(floats)) if joint else max(floats, key=len)
    assert len(shared) <= 16 or name == "ecsq"
    for key in LOSSY:
        assert np.all(after[key][before[key] == 0] == 0)
        assert not np.array_equal(after[key], before[key])
        assert after[key].dtype == before[key].dtype
    assert len(data) < 0.6 * len(pack_exact(model).file)


def test_integers_become_what_is_nearest_to_the_shared_values():
    model = _model()
    before, after = _arrays(model), _arrays(pack_shared(model, "ham", "kmeans", 8).model)
    scale = before["s1"][:, None]
    real, found = (a["q1"].reshape(16, -1) * scale for a in (before, after))
    assert max(len(np.unique(row)) for row in after["q1"].reshape(16, -1)) <= 8
    centres = share(real.astype(np.float32), "kmeans", 8).centroids
    away = np.abs(found[..., None] - centres).min(-1)
    inside = np.abs(after["q1"].reshape(16, -1).astype(int)) < 127
    assert np.all((away <= 0.51 * scale)[inside])
    assert inside.mean() > 0.9


def test_half_precision_is_kept():
    model = _model(kind=np.float16, integers=False)
    after = _arrays(pack_shared(model, "shac", "kmeans", 16).model)
    assert after["matmul"].dtype == np.float16
    assert len(np.unique(after["matmul"])) <= 16
    assert np.abs(after["matmul"] - _arrays(model)["matmul"]).mean(dtype=np.float32) < 0.5


def _sharing(model, *args, **kwargs):
    found = weights(onnx.load_from_string(model), model, holes(model))
    return Sharing(model, found, *args, **kwargs)


@pytest.mark.parametrize("name", QUANTISERS)
def test_fewer_values_make_smaller_files(name):
    dial = _sharing(_model(), "shac", name)
    amounts = [0.3, 0.1, 0.01, 0.001] if name == "ecsq" else [4, 8, 16, 32]
    sizes = [len(dial.pack(amount).file) for amount in amounts]
    assert all(a < b for a, b in pairwise(sizes))
    assert dial.pack(amounts[0]) == pack_shared(_model(), "shac", name, amounts[0])


@pytest.mark.parametrize(("name", "least"), [("kmeans", 3000), ("ecsq", 3900)])
def test_a_size_is_met_by_turning_the_dial(name, least):
    dial = _sharing(_dense(1, (100, 80, 60)), "shac", name)
    rates = [dial.at(coarseness).rate for coarseness in (0, 0.5, 1)]
    assert rates[0] > rates[1] > rates[2]
    found, fits = finest_within(dial, 8 * 4000 / dial.at(1).elements)
    assert fits
    assert least < len(found.file) <= 4000
    assert decode(found.file).model == found.model


def _entropy_bytes(model):
    """Of every lossy tensor by itself."""
    found = 0.0
    for key, values in _arrays(model).items():
        if key in LOSSY:
            counts = np.unique(values, return_counts=True)[1]
            found -= sum(n * log2(n / values.size) for n in counts.tolist()) / 8
    return found


def _dense(density, sizes=(500, 400, 300)):
    first, second, third = sizes
    arrays = {
        "gemm": _array(0, (first, second), density),
        "matmul": _array(1, (second, third), density),
    }
    nodes = [
        helper.make_node("Gemm", ["x", "gemm"], ["a"]),
        helper.make_node("MatMul", ["a", "matmul"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, [1, first])],
        [helper.make_tensor_value_info("y", 1, [1, third])],
        [numpy_helper.from_array(value, name) for name, value in arrays.items()],
    )
    return helper.make_model(graph).SerializeToString()


@pytest.mark.parametrize("amount", [16, 32, 64])
def test_a_dense_model_takes_its_entropy_and_its_dictionaries(amount):
    data = pack_shared(_dense(1), "ham", "kmeans", amount).file
    entropy = _entropy_bytes(decode(data).model)
    assert entropy < len(data) < 1.02 * entropy + 2 * 5 * amount + 700


def test_all_elements_at_density_one_gaps_at_one_percent():
    dense, sparse = _dense(1), _dense(0.01)
    both = {codec: len(pack_shared(dense, codec, "kmeans", 16).file) for codec in ("ham", "shac")}
    assert abs(both["ham"] - both["shac"]) < 3  # the form is the same, the name is not
    few = {codec: pack_shared(sparse, codec, "kmeans", 16).file for codec in ("ham", "shac")}
    entropy = _entropy_bytes(decode(few["shac"]).model)
    assert len(few["shac"]) < 1.02 * entropy + 2 * 5 * 16 + 900
    assert len(few["shac"]) < 0.25 * len(few["ham"])
    assert decode(few["ham"]).model == decode(few["shac"]).model


def test_weights_that_are_shorter_as_they_are_stay_exact():
    model = _model()
    after = _arrays(pack_shared(model, "shac", "kmeans", 400).model)
    before = _arrays(model)
    assert np.array_equal(after["q1"], before["q1"])
    assert not np.array_equal(after["matmul"], before["matmul"])


def _moments(model):
    rng = np.random.default_rng(0)
    shapes = {"second": 144, "gemm": 24, "matmul": 80}
    names = list(_arrays(model))
    found = {}
    for name, size in shapes.items():
        inputs = rng.normal(size=(300, size)) * np.exp(rng.normal(size=size))
        found[names.index(name)] = (inputs.T @ inputs / 300)[None].astype(np.float32)
    return found


def _output_error(before, after, moments):
    """Per element, relative to the power of the outputs."""
    names, total, count = list(before), 0.0, 0
    for index, (moment,) in moments.items():
        arrays = [a[names[index]].astype(np.float64) for a in (before, after)]
        conv = names[index] == "second"
        was, now = (a.reshape(len(a), -1) if conv else a.T for a in arrays)
        change, power = now - was, (was**2 @ np.diagonal(moment)).sum()
        total += was.size * np.einsum("oi,ij,oj->", change, moment, change) / power
        count += was.size
    return total / count


@pytest.mark.parametrize("name", ["kmeans", "uniform", "ecsq"])
def test_moments_lessen_the_error_of_outputs_at_no_more_bytes(name):
    model, amount = _model(integers=False), AMOUNTS[name]
    moments, before = _moments(model), _arrays(model)
    plain = pack_shared(model, "ham", name, amount)
    dial = _sharing(model, "ham", name, moments=moments)
    tuned = dial.pack(amount)
    while name == "ecsq":
        amount *= 0.9
        finer = dial.pack(amount)
        if len(finer.file) > len(plain.file):
            break
        tuned = finer
    errors = [_output_error(before, _arrays(one.model), moments) for one in (plain, tuned)]
    assert len(tuned.file) <= 1.01 * len(plain.file)
    assert errors[1] < 0.95 * errors[0]


def test_weights_with_small_steps_are_coded_finer():
    model = _dense(1, (100, 80, 60))
    before = _arrays(model)
    found = {}
    for small in (0, 1):
        packed = _sharing(model, "ham", "ecsq", steps={small: 0.02, 1 - small: 0.1}).pack(1 / 6)
        after = _arrays(packed.model)
        found[small] = [float(np.square(after[k] - before[k]).mean()) for k in before]
    for errors in (found[0], found[1][::-1]):  # of a high rate: a twelfth of the square of a step
        assert errors[0] == pytest.approx(0.02**2 / 12, rel=0.05)
        assert errors[1] == pytest.approx(0.1**2 / 12, rel=0.3)


def test_a_moment_of_another_layer_is_refused():
    model = _model(integers=False)
    with pytest.raises(ValueError, match="second has 144 columns"):
        _sharing(model, moments={list(_arrays(model)).index("second"): np.eye(24)[None]})


def test_unknown_codecs_are_refused():
    with pytest.raises(ValueError, match="zip"):
        _sharing(_model(), "zip")


def test_a_model_without_weights_is_kept():
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [], [])
    model = helper.make_model(graph).SerializeToString()
    assert decode(pack_shared(model).file).model == model
    assert decode(pack_shared(model, joint=True).file).model == model


READ = """
import pathlib, sys
from decoder import decode
found = decode(pathlib.Path(sys.argv[1]).read_bytes())
assert not {m.split(".")[0] for m in sys.modules} & {"hwprune", "onnx", "scipy", "constriction"}
sys.stdout.buffer.write(found.model)
"""


def test_the_decoder_alone_reads_it_in_another_process(tmp_path):
    shutil.copytree(Path(hwprune.codec.decoder.__file__).parent, tmp_path / "decoder")
    data = pack_shared(_model(0.3), "shac", "ecsq", 0.01).file
    (tmp_path / "model.hwp").write_bytes(data)
    command = [sys.executable, "-c", READ, "model.hwp"]
    found = subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, check=True)
    assert found.stdout == decode(data).model


def _changed(content, kind, rng):
    """A byte or a few; or a value of the description of a section of indices."""
    if kind != b"U" or rng.random() < 0.4:
        found = bytearray(content)
        for _ in range(rng.randint(1, 3)):
            found[rng.randrange(len(found))] = rng.randrange(256)
        return bytes(found)
    length = int.from_bytes(content[:4], "little")
    meta = document(content[4 : 4 + length])
    place, key = meta, rng.choice(list(meta))
    while isinstance(place[key], list | dict) and place[key] and rng.random() < 0.9:
        place = place[key]
        key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
    place[key] = rng.choice([0, 1, -1, 7, 1 << 40, 1e300, "12", "", None, [], [1, 2], {}])
    head = fold_document(meta)
    return len(head).to_bytes(4, "little") + head + bytes(content[4 + length :])


def _mutated(data, rng):
    """A file of which one section is damaged, and its checksum mended."""
    parts = [(s.kind, bytes(s.content)) for s in sections(data)][:-1]
    victim = rng.choice([*range(len(parts)), *[-1] * 4])  # most often b"U"
    parts[victim] = (parts[victim][0], _changed(parts[victim][1], parts[victim][0], rng))
    return write_sections(parts)


def test_damaged_files_are_refused_quickly():
    rng, refused = random.Random(0), 0
    models = [_dense(d, (20, 30, 20)) for d in (1, 0.3)]
    files = [pack_shared(model, "shac", "kmeans", 12).file for model in models]
    started = time.monotonic()
    for i in range(300):
        try:
            decode(_mutated(files[i % 2], rng))
        except DecodeError:
            refused += 1
    assert refused > 290  # what is not read is not missed
    assert time.monotonic() - started < 20


def test_sections_together_hold_no_more_elements_than_the_model_has_bytes():
    data = pack_shared(_dense(0.001), "ham", "kmeans", 2).file
    parts = [(s.kind, bytes(s.content)) for s in sections(data) if s.kind != b"E"]
    assert parts[-1][0] == b"U"
    assert decode(write_sections(parts)) == decode(data)
    with pytest.raises(DecodeError, match="declares more weights"):
        decode(write_sections(parts + parts[-1:] * 40))
