"""Weights on two grids: what a decoder makes of them, how small and how near they are."""

import shutil
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import hwprune.codec.decoder
from hwprune.codec.arrays import Symbols, encode_arrays
from hwprune.codec.deadzone import quantize
from hwprune.codec.decoder import DecodeError, decode
from hwprune.codec.decoder.container import document, sections
from hwprune.codec.dials import DeadZone
from hwprune.codec.products import groups, matrix, places
from hwprune.codec.skeleton import holes
from hwprune.codec.trellis import encode_trellis
from hwprune.codec.weights import Weight, weights
from hwprune.quantize.gptq import Inverse, inverse
from hwprune.testing.damage import damaged

SHAPES = {  # of weights, and how many groups
    "plain": ((12, 4, 3, 3), 1),
    "grouped": ((12, 6, 3, 3), 2),
    "depthwise": ((12, 1, 5, 5), 12),
    "smooth": ((30, 20, 3, 3), 1),
    "gemm": ((30, 12), 1),
    "matmul": ((30, 140), 1),
    "wide": ((1100, 5), 1),
}


def _model(names: Collection[str] = (*SHAPES, "rnn", "again")) -> bytes:
    """Convolutions, products with outputs first and last, one wider than 1,024, a recurrence."""
    rng = np.random.default_rng(0)
    arrays = {name: rng.laplace(size=shape) for name, (shape, _) in SHAPES.items()}
    arrays["smooth"] = arrays["smooth"] + 3 * rng.laplace(size=(30, 20, 1, 1))
    arrays |= {"rnn": rng.laplace(size=(1, 16, 20)), "again": rng.laplace(size=(1, 16, 16))}
    nodes = [
        helper.make_node("Conv", ["x", name], [f"{name}/y"], group=SHAPES[name][1])
        for name in ("plain", "grouped", "depthwise", "smooth")
    ]
    nodes += [
        helper.make_node("Gemm", ["flat", "gemm"], ["g"], transB=1),
        helper.make_node("MatMul", ["g", "matmul"], ["m"]),
        helper.make_node("MatMul", ["broad", "wide"], ["w"]),
        helper.make_node("RNN", ["s", "rnn", "again"], ["r"], hidden_size=16),
    ]
    fixed = [numpy_helper.from_array(a.astype(np.float32), name) for name, a in arrays.items()]
    nodes = [node for node in nodes if node.input[1] in names]
    fixed = [tensor for tensor in fixed if tensor.name in names]
    outputs = [o for node in nodes for o in node.output if o not in {"g"}]
    graph = helper.make_graph(
        nodes,
        "all",
        [],
        [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs],
        fixed,
    )
    return bytes(helper.make_model(graph).SerializeToString())


def _weights(model: bytes) -> list[Weight]:
    return weights(onnx.load_model_from_string(model), model, holes(model))


def _moment(weight: Weight) -> np.ndarray:
    """Of columns that resemble their neighbours."""
    parts, _, columns = matrix(weight, weight.values).shape
    rng = np.random.default_rng(weight.index)
    rows = rng.normal(size=(parts, 2 * columns, columns)).cumsum(2) + 0.3
    return (rows.swapaxes(1, 2) @ rows).astype(np.float32) / (2 * columns)


MODEL = _model()
WEIGHTS = _weights(MODEL)
MOMENTS = {w.index: _moment(w) for w in WEIGHTS if w.name in SHAPES}
STEPS = {w.index: float(w.values.std()) / 2 for w in WEIGHTS}


def _known() -> dict[int, Inverse]:
    return {w.index: _inverse(w) for w in WEIGHTS if w.index in MOMENTS}


def _inverse(weight: Weight) -> Inverse:
    return inverse(torch.from_numpy(MOMENTS[weight.index]), places(weight))


def test_all_kinds_of_weights_are_there():
    assert {w.name for w in WEIGHTS} == {*SHAPES, "rnn", "again"}
    assert [groups(w) for w in WEIGHTS if w.name in SHAPES] == [g for _, g in SHAPES.values()]


@pytest.mark.parametrize("known", [{}, _known()], ids=["alone", "for the output"])
@pytest.mark.parametrize("coarseness", [0.0, 0.6, 0.75, 1.0])
def test_a_decoder_finds_what_was_reconstructed(coarseness, known):
    packed = DeadZone(MODEL, WEIGHTS, STEPS, known).at(coarseness)
    assert decode(packed.file).model == packed.model
    after = _weights(packed.model)
    factor = 2 ** (-7 + 11 * coarseness)
    for before, now in zip(WEIGHTS, after, strict=True):
        [found] = quantize([before], {before.index: factor * STEPS[before.index]}, known)
        assert (now.values == found.values).all()


def test_smooth_kernels_are_foretold_and_shorter(monkeypatch):
    weight = next(w for w in WEIGHTS if w.name == "smooth")
    dial = DeadZone(MODEL, [weight], STEPS, _known())
    packed = dial.at(0.6)
    header = document(next(sections(packed.file)).content)
    assert [e["foretold"] for e in header["tensors"] if e["form"] == "trellis"]
    monkeypatch.setattr("hwprune.codec.outputs.predictor", lambda *_: None)
    plain = dial.at(0.6)
    assert len(packed.file) < len(plain.file) - 0.3 * weight.values.size / 8
    lost = [
        next(w for w in _weights(p.model) if w.name == "smooth").values - weight.values
        for p in (packed, plain)
    ]
    assert np.square(lost[0]).mean() < 1.1 * np.square(lost[1]).mean()


READ = """
import pathlib, sys
from decoder import decode
found = decode(pathlib.Path(sys.argv[1]).read_bytes())
assert not {m.split(".")[0] for m in sys.modules} & {"hwprune", "onnx", "torch", "constriction"}
sys.stdout.buffer.write(found.model)
"""


def test_the_decoder_alone_reads_it_in_another_process(tmp_path):
    shutil.copytree(Path(hwprune.codec.decoder.__file__).parent, tmp_path / "decoder")
    packed = DeadZone(MODEL, WEIGHTS, STEPS, _known()).at(0.7)
    (tmp_path / "model.hwp").write_bytes(packed.file)
    command = [sys.executable, "-c", READ, "model.hwp"]
    found = subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, check=True)
    assert found.stdout == packed.model


def _scalar(values: np.ndarray, step: float) -> tuple[int, float]:
    """Bytes and error of whole steps, the best of some pulls towards zero and of their means."""
    found = []
    for pull in (0.0, 0.1, 0.2, 0.3):
        sizes = np.rint(np.maximum(np.abs(values) / step - pull, 0))
        points = sizes * step
        for own in (sizes == 1, sizes > 1):
            points[own] += (np.abs(values) - points)[own].mean() if own.any() else 0
        numbers = (np.sign(values) * sizes).astype(np.int32)
        error = float(np.square(np.abs(values) - points).mean())
        found.append((len(encode_arrays([Symbols(numbers, "scalar")])), error))
    return min(found, key=lambda one: one[1] * 4 ** (8 * one[0] / values.size))


@pytest.mark.parametrize(("step", "decibels"), [(0.3, 0.75), (0.8, 0.55), (1.5, 0.3)])
def test_errors_are_smaller_than_of_whole_steps_in_as_many_bytes(step, decibels):
    values = np.random.default_rng(1).laplace(size=(300, 300, 1)).astype(np.float32)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    weight = Weight(0, "w", "float32", (300, 300), values, node, "x", None)
    [found] = quantize([weight], {0: step}, {})
    size = len(encode_trellis(found.coded.chained))
    error = float(np.square(found.values - values).mean())
    scalars = sorted(_scalar(values, s) for s in np.geomspace(0.6, 1.2, 12) * step)
    sizes, errors = np.array(scalars).T
    assert sizes[0] < size < sizes[-1]
    assert np.log10(np.interp(size, sizes, errors) / error) > decibels / 10


def _lost(weight: Weight, values: np.ndarray) -> float:
    error = matrix(weight, weight.values - values).astype(np.float64)
    return float(np.einsum("gri,gij,grj->", error, MOMENTS[weight.index], error))


@pytest.mark.parametrize("name", SHAPES)
def test_moments_lessen_the_error_of_outputs(name):
    weight = next(w for w in WEIGHTS if w.name == name)
    known = {weight.index: _inverse(weight)}
    for step in (STEPS[weight.index] / 3, STEPS[weight.index], 3 * STEPS[weight.index]):
        steps = {weight.index: step}
        [alone], [found] = quantize([weight], steps, {}), quantize([weight], steps, known)
        assert _lost(weight, found.values) < 0.5 * _lost(weight, alone.values)


@pytest.mark.parametrize("scale", [0.0, 1e-38, 1e30])
def test_extreme_weights_are_coded(scale):
    values = (np.random.default_rng(2).normal(size=(20, 20, 1)) * scale).astype(np.float32)
    values[3, 3] *= 1e6
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    weight = Weight(0, "w", "float32", (20, 20), values, node, "x", None)
    [found] = quantize([weight], {0: 0.1 * scale}, {})
    assert np.isfinite(found.values).all()
    assert encode_trellis(found.coded.chained)


def test_damaged_files_are_refused_or_a_model():
    model = _model(("plain", "gemm"))
    small = _weights(model)
    files = [DeadZone(model, small, dict.fromkeys(range(9), 0.5)).at(c).file for c in (0.6, 0.8)]
    refused = 0
    for number in range(0, 600, 3):  # a third are changed descriptions with right checksums
        file, mended = damaged(files[number % 2], files[1], number + number % 2)
        assert mended
        try:
            assert isinstance(decode(file).model, bytes)
        except DecodeError:
            refused += 1
    assert 150 < refused < 200
