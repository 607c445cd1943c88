"""Weights in words of a byte or two: taken apart by the shape that the graph tells."""

import lzma

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from hwprune.codec.decoder import DecodeError, decode
from hwprune.codec.decoder.container import document, sections
from hwprune.codec.decoder.forms import FORMS
from hwprune.codec.packing import pack_exact
from hwprune.codec.skeleton import holes
from hwprune.codec.words import digits, unpacked_shapes
from hwprune.export.storage import Storage, pack, word_of

LEVELS = [2, 3, 7, 15, 31]


def weights(levels, shape=(40, 30, 3, 3), seed=0):
    """Rows of all loudnesses."""
    rng = np.random.default_rng(seed)
    loud = np.exp(rng.normal(-1, 1, size=(shape[0], *[1] * (len(shape) - 1))))
    real = rng.laplace(size=shape) * loud
    highest = max(1, levels // 2)
    found = np.rint(real * highest).clip(-highest, highest)
    return (np.sign(real) if levels == 2 else found).astype(np.int8)


def stored(values, levels):
    """A model that holds the weights in words, as this package writes them."""
    graph = gs.Graph(opset=17, ir_version=8)
    highest = max(1, levels // 2)
    known = np.arange(-highest, highest + 1, dtype=np.int8)
    output = Storage(graph).add("w", values, known if levels > 2 else known[[0, 2]])
    output.dtype, output.shape = np.int8, values.shape
    graph.outputs = [output]
    return gs.export_onnx(graph).SerializeToString()


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("shape", [(80, 70, 3, 3), (141, 133), (137, 133, 3, 1)])
def test_words_are_taken_apart_and_come_back(levels, shape):
    values = weights(levels, shape)
    model = stored(values, levels)
    file = pack_exact(model).file
    assert decode(file).model == model
    entries = document(next(sections(file)).content)["tensors"]
    [entry] = [e for e in entries if e["form"] == "words"]
    assert (entry["levels"], entry["each"]) == (levels, word_of(levels).count)
    [found] = [s for s in unpacked_shapes(model, holes(model)).values() if s == shape]
    assert found == shape


@pytest.mark.parametrize("levels", [3, 7, 15])
def test_they_are_shorter_than_by_lzma(levels):
    model = stored(weights(levels, (100, 90, 3, 3)), levels)
    other = len(lzma.compress(model, preset=9 | lzma.PRESET_EXTREME))
    assert len(pack_exact(model).file) < 0.97 * other


def test_digits_of_another_shape_are_none():
    values = weights(15) + 7
    words = pack(values, 15)
    numbers, base, each = digits(words, values.shape)
    assert (numbers.tolist(), base, each) == (values.tolist(), 15, 2)
    assert digits(words, (40, 30, 3, 4)) is None
    assert digits(words, (40, 30, 3, 1)) is None
    assert digits(words, (40, 30, 9)) is not None
    assert digits(words, (1 << 40, 1 << 20)) is None


def test_other_graphs_have_none():
    model = onnx.load_model_from_string(stored(weights(15), 15))
    cast = next(n for n in model.graph.node if n.op_type == "Cast")
    model.graph.output.append(onnx.ValueInfoProto(name=cast.output[0]))
    model.graph.node.append(onnx.helper.make_node("Identity", [cast.output[0]], ["z"]))
    data = model.SerializeToString()
    assert unpacked_shapes(data, holes(data)) == {}
    assert decode(pack_exact(data).file).model == data


def test_a_reshape_of_old_opsets_tells_no_shape():
    model = onnx.load_model_from_string(stored(weights(15), 15))
    for node in model.graph.node:
        if node.op_type == "Reshape":
            del node.input[1:]
    data = model.SerializeToString()
    assert unpacked_shapes(data, holes(data)) == {}
    assert decode(pack_exact(data).file).model == data


class Given:
    """Parts that hold one array."""

    def __init__(self, values):
        self.values = np.array(values, np.int32).reshape(1, 1, -1)

    def array(self):
        return self.values


ENTRY = {"form": "words", "levels": 15, "each": 2, "item": 1, "centre": 7}


def test_a_word_that_is_not_full():
    assert FORMS["words"](ENTRY, Given([-7, 0, 7]), 100) == bytes([7, 14 * 15])


@pytest.mark.parametrize(
    ("change", "values"),
    [
        ({"levels": 17}, [0, 0]),
        ({"levels": 1}, [0, 0]),
        ({"each": 0}, [0, 0]),
        ({"each": 10**9}, [0, 0]),
        ({"item": 4}, [0, 0]),
        ({}, [8, 0]),
        ({}, [-8, 0]),
        ({}, [0] * 202),
    ],
)
def test_words_that_cannot_be(change, values):
    with pytest.raises(DecodeError):
        FORMS["words"](ENTRY | change, Given(values), 100)
