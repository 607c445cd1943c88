"""Small .hwp files of every codec and of every form that a tensor may be told in."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from hwprune.codec.decoder import Decoded, DecodeError, decode
from hwprune.codec.decoder.container import CHECK, HEAD, sections
from hwprune.codec.dials import DeadZone
from hwprune.codec.packing import pack_exact
from hwprune.codec.products import matrix, places
from hwprune.codec.shac import Sharing
from hwprune.codec.skeleton import holes
from hwprune.codec.surp import Surp
from hwprune.codec.weights import Weight, weights
from hwprune.quantize.gptq import Inverse, inverse
from hwprune.testing.damage import damaged


@dataclass(frozen=True, slots=True)
class Specimen:
    """A file, and the models that it and its beginnings stand for."""

    name: str
    file: bytes
    models: frozenset[bytes]


def every_form(seed: int = 0) -> bytes:
    """A serialised model: a convolution, a product, and tensors that nobody reads."""
    rng = np.random.default_rng(seed)
    loud = np.exp(rng.normal(size=(24, 1, 1, 1)))
    tensors: dict[str, NDArray[Any]] = {
        "conv": (kernels(rng, 24, 8) * loud).astype(np.float32),
        "product": rng.laplace(size=(24, 20)).astype(np.float32),
        "half": rng.normal(size=(40, 30)).astype(np.float16),
        "sparse": (rng.normal(size=(40, 30)) * (rng.random((40, 30)) < 0.2)).astype(np.float32),
        "coloured": rng.choice(rng.normal(size=9).astype(np.float32), (40, 30)),
        "integers": rng.integers(-9, 9, (3000,)).astype(np.int8),
        "positive": rng.poisson(4, (50, 50)).astype(np.uint8),
        "constant": np.full((50, 50), 7, np.uint8),
        "small": rng.normal(size=12).astype(np.float32),
        "scale": np.array(0.02, np.float32),
        "kernels": np.rint(20 * kernels(rng, 24, 16)).clip(-128, 127).astype(np.int8),
        "codes": np.rint(rng.laplace(0, 20, (20, 16))).clip(-128, 127).astype(np.int8),
    }
    fixed = [numpy_helper.from_array(values, name) for name, values in tensors.items()]
    fixed.append(int4("nibbles", rng.integers(0, 256, 2100, np.uint8).tobytes(), (60, 70)))
    nodes = [
        helper.make_node("Conv", ["x", "conv"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["a"], ["b"]),
        helper.make_node("Flatten", ["b"], ["c"]),
        helper.make_node("MatMul", ["c", "product"], ["d"]),
        helper.make_node("DequantizeLinear", ["codes", "scale"], ["real"]),
        helper.make_node("MatMul", ["d", "real"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 6, 6])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 16])
    graph = helper.make_graph(nodes, "forms", [x], [y], fixed)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return bytes(model.SerializeToString())


def kernels(rng: np.random.Generator, outputs: int, inputs: int) -> NDArray[Any]:
    """Of 3 x 3 places that are alike."""
    shape = (outputs, inputs)
    return rng.laplace(size=(*shape, 1, 1)) + rng.laplace(size=(*shape, 3, 3)) / 2


def int4(name: str, raw: bytes, shape: tuple[int, ...]) -> TensorProto:
    """A tensor of elements of 4 bits, two of them in a byte."""
    return TensorProto(name=name, data_type=TensorProto.INT4, dims=shape, raw_data=raw)


def coded_weights(model: bytes) -> list[Weight]:
    """Those that may lose something."""
    return weights(onnx.load_model_from_string(model), model, holes(model))


@cache
def specimens() -> tuple[Specimen, ...]:
    """Made once; the same every time."""
    return tuple(Specimen(name, file, _models(file)) for name, file in _files())


@dataclass(frozen=True, slots=True)
class Damaged:
    """A damaged file; `models` are those that it may still stand for, None: any."""

    file: bytes
    models: frozenset[bytes] | None


def damaged_specimen(number: int) -> Damaged:
    """Always the same for a number."""
    found = specimens()
    one, other = (found[number // step % len(found)] for step in (3, 5))
    file, mended = damaged(one.file, other.file, number)
    return Damaged(file, None if mended else one.models | other.models)


def answer(given: Damaged) -> str:
    """What comes of a damaged file: "refused", "model", or "wrong" where damage went unnoticed.

    Whatever else a decoder raises is raised; so is a MemoryError that it has translated.
    """
    try:
        model = decode(given.file).model
    except DecodeError as error:
        if isinstance(error.__cause__, MemoryError):
            raise error.__cause__ from None
        return "refused"
    return "model" if given.models is None or model in given.models else "wrong"


def _files() -> Iterator[tuple[str, bytes]]:
    model = every_form()
    found = coded_weights(model)
    steps = {weight.index: float(weight.values.std()) / 4 for weight in found}
    yield "exact", pack_exact(model).file
    yield "deadzone", DeadZone(model, found, steps, _known(found)).at(0.6).file
    yield "surp", Surp(model, found).at(0.7).file
    for codec in ("ham", "shac"):
        yield codec, Sharing(model, found, codec).at(0.6).file


def _known(found: list[Weight]) -> dict[int, Inverse]:
    """Inputs that have nothing to do with one another, of the convolution alone."""
    conv = next(weight for weight in found if weight.name == "conv")
    apart, _, columns = matrix(conv, conv.values).shape
    return {conv.index: inverse(torch.eye(columns).expand(apart, -1, -1), places(conv))}


def _models(file: bytes) -> frozenset[bytes]:
    """Of all that can be had from the beginnings of a file."""
    found = [decode(file)]
    for section in sections(file):
        if section.kind == b"R":
            end = section.offset + HEAD.size + len(section.content) + CHECK.size
            found += _beginning(file[:end])
    return frozenset(one.model for one in found)


def _beginning(data: bytes) -> list[Decoded]:
    try:
        return [decode(data)]
    except DecodeError:
        return []


def single(values: NDArray[Any] | TensorProto) -> bytes:
    """A serialised model that gives out one tensor."""
    tensor = values if isinstance(values, TensorProto) else numpy_helper.from_array(values, "w")
    y = helper.make_tensor_value_info("y", tensor.data_type, list(tensor.dims))
    node = helper.make_node("Identity", [tensor.name], ["y"])
    graph = helper.make_graph([node], "single", [], [y], [tensor])
    return bytes(helper.make_model(graph).SerializeToString())
