"""Whole models, packed exactly: the same bytes come back."""

import hashlib
import weakref
from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from hwprune.codec import packing
from hwprune.codec.container import fold
from hwprune.codec.decoder import Decoded, DecodeError, decode
from hwprune.codec.decoder.container import document, sections
from hwprune.codec.exact import exact
from hwprune.codec.packing import pack_exact, packed
from hwprune.codec.rate import Packed
from hwprune.codec.skeleton import elements, holes
from hwprune.codec.weights import weights
from hwprune.frontend.models import load_model
from hwprune.graph.read import to_proto
from hwprune.testing.networks import BLOCKS, HEADS, build_model
from hwprune.testing.specimens import every_form, single


def test_the_bundled_network():
    model = to_proto(load_model(None, None).graph).SerializeToString()
    found = pack_exact(model)
    assert decode(found.file) == Decoded(model, "exact", True, 1.0)
    assert len(found.file) < 0.93 * len(model)
    assert found.elements == elements(holes(model)) > 900_000
    assert found.rate == pytest.approx(8 * len(found.file) / found.elements)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=4),
    st.sampled_from(HEADS),
    st.integers(0, 99),
)
def test_random_networks(blocks, head, seed):
    model = build_model(*blocks, head=head, seed=seed).SerializeToString()
    assert decode(pack_exact(model).file).model == model


def test_a_file_is_no_larger_than_the_model_and_a_description():
    for seed in range(5):
        model = build_model(*BLOCKS[:3], seed=seed).SerializeToString()
        assert len(pack_exact(model).file) < len(model) + 200


def test_a_model_without_weights():
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [], [])
    model = helper.make_model(graph).SerializeToString()
    assert decode(pack_exact(model).file).model == model


@pytest.mark.parametrize("values", [np.zeros((0, 3), np.float32), np.array("text", object)])
def test_tensors_without_bytes_of_their_own(values):
    model = single(values)
    assert holes(model) == []
    assert decode(pack_exact(model).file).model == model


def test_the_header_tells_what_is_in_the_file():
    model = every_form()
    first = next(iter(sections(pack_exact(model).file)))
    header = document(first.content)
    assert first.kind == b"H"
    assert header["codec"] == "exact"
    assert header["bytes"] == len(model)
    assert header["sha256"] == hashlib.sha256(model).hexdigest()
    assert len(header["literals"]) == len(header["tensors"]) + 1
    told = {tensor["form"] for tensor in header["tensors"]}
    assert told == {"plain", "planes", "packed", "palette", "sparse"}


def test_large_models_are_coded_in_portions(monkeypatch):
    model = every_form()
    whole = pack_exact(model).file
    monkeypatch.setattr(packing, "_ARRAYS", 4000)
    parts = pack_exact(model).file
    counts = [[s.kind for s in sections(file)].count(b"A") for file in (whole, parts)]
    assert counts[0] == 1
    assert counts[1] > 3
    assert decode(parts).model == model


def test_the_same_model_gives_the_same_file():
    assert pack_exact(every_form()).file == pack_exact(every_form()).file


def test_what_is_said_to_be_told_is_held_against_what_is():
    model = every_form()
    found = holes(model)
    every = weights(onnx.load_from_string(model), model, found)
    weight = next(w for w in every if w.name == "product")
    coded = exact(found[weight.index], model)

    def saying(data: bytes) -> Packed:
        return packed(model, "exact", [weight], [replace(coded, data=data)])

    assert saying(found[weight.index].read(model).tobytes()).model == model
    with pytest.raises(DecodeError, match="digest"):
        decode(saying(bytes(found[weight.index].size)).file)


def test_it_is_shorter_than_lzma_of_the_whole():
    model = every_form()
    assert len(pack_exact(model).file) < len(fold(model))


def test_few_tensors_are_held_at_a_time(monkeypatch):
    """What was coded is let go, however many tensors there are."""
    monkeypatch.setattr(packing, "_ARRAYS", 5000)
    tensors = [numpy_helper.from_array(np.full((50, 60), i, np.int8), f"w{i}") for i in range(20)]
    graph = helper.make_graph([], "many", [], [], tensors)
    model = helper.make_model(graph).SerializeToString()
    alive: list[weakref.ref] = []
    most = 0
    own = exact

    def watched(hole, data, unpacked):
        nonlocal most
        found = own(hole, data, unpacked)
        array = found.arrays[0].values
        alive.append(weakref.ref(array))
        most = max(most, sum(ref() is not None for ref in alive))
        return found

    monkeypatch.setattr(packing, "exact", watched)
    assert pack_exact(model).model == model
    assert len(alive) == 20
    assert most <= 3
