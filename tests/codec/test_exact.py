"""Any tensor comes back to the last bit, in a form that suits it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import TensorProto

from hwprune.codec.decoder import decode
from hwprune.codec.exact import exact
from hwprune.codec.packing import pack_exact
from hwprune.codec.skeleton import holes
from hwprune.testing.specimens import single

TYPES = ["f2", "f4", "f8", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "?"]


def form(model):
    """How the one tensor of a model is told."""
    (hole,) = holes(model)
    return exact(hole, model).entry["form"]


def kept(model):
    """A model that comes back; the bytes of its file."""
    file = pack_exact(model).file
    assert decode(file).model == model
    return len(file)


@settings(max_examples=50, deadline=None)
@given(st.data(), st.sampled_from(TYPES), st.sampled_from(["any", "sparse", "few"]))
def test_any_tensor(data, dtype, kind):
    shape = data.draw(st.sampled_from([(), (1,), (3000,), (40, 60), (9, 20, 3, 5), (2, 2048)]))
    elements = {"fill": st.nothing()} if kind == "any" and np.prod(shape) < 10 else {}
    values = data.draw(arrays(np.dtype(dtype), shape, **elements))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    noise = rng.bytes(values.nbytes)
    if kind == "sparse":
        values = np.where(rng.random(shape) < 0.3, np.frombuffer(noise, dtype).reshape(shape), 0)
    elif kind == "few" and values.size:
        values = rng.choice(np.frombuffer(noise, dtype)[:50], shape)
    kept(single(values.astype(dtype)))


@pytest.mark.parametrize("dtype", [t for t in TYPES if t != "?"])
def test_every_bit_pattern(dtype):
    raw = np.random.default_rng(0).bytes(np.dtype(dtype).itemsize * 3000)
    kept(single(np.frombuffer(raw, dtype).reshape(50, 60)))


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_payloads_of_nan_and_signs_of_zero(dtype):
    bits = np.dtype(f"u{dtype[1]}")
    ones = bits.type(np.iinfo(bits).max)
    rng = np.random.default_rng(0)
    raw = rng.integers(0, np.iinfo(bits).max, 3000, bits)
    raw[::3] = ones  # NaN, all bits set
    raw[1::3] = ones - rng.integers(0, 9, 1000).astype(bits)
    raw[2::9] = bits.type(1) << bits.type(8 * bits.itemsize - 1)  # -0
    kept(single(raw.view(dtype)))


KINDS = [getattr(TensorProto, n) for n in ("BFLOAT16", "FLOAT8E4M3FN", "FLOAT8E5M2", "BOOL")]
KINDS += [getattr(TensorProto, n, 0) for n in ("INT4", "UINT4", "INT2", "UINT2", "FLOAT4E2M1")]


@pytest.mark.parametrize("kind", [k for k in KINDS if k])
@pytest.mark.parametrize("size", [7, 6000, 6001])
def test_types_that_numpy_does_not_have(kind, size):
    raw = np.random.default_rng(kind).bytes(size)
    for dims in ([size], [2, size], [3, 3]):
        kept(single(TensorProto(name="w", data_type=kind, dims=dims, raw_data=raw)))


def test_the_bytes_of_bfloat16_are_told_apart():
    raw = rng_normal(100, 200).view(np.uint32) >> 16
    model = single(
        TensorProto(
            name="w",
            data_type=TensorProto.BFLOAT16,
            dims=[100, 200],
            raw_data=raw.astype("<u2").tobytes(),
        )
    )
    _, counts = np.unique(raw >> 8, return_counts=True)
    signs_and_exponents = -(counts * np.log2(counts / counts.sum())).sum() / 8
    assert kept(model) < raw.size + 1.05 * signs_and_exponents + 600


@pytest.mark.parametrize("kind", [TensorProto.INT4, TensorProto.UINT4])
def test_elements_of_four_bits_at_their_entropy(kind):
    rng = np.random.default_rng(0)
    values = np.rint(rng.laplace(0, 1.2, (100, 200))).clip(-8, 7).astype(int) & 15
    raw = (values.ravel()[::2] | values.ravel()[1::2] << 4).astype(np.uint8).tobytes()
    model = single(TensorProto(name="w", data_type=kind, dims=[100, 200], raw_data=raw))
    _, counts = np.unique(values, return_counts=True)
    entropy = -(counts * np.log2(counts / counts.sum())).sum() / 8
    assert form(model) == "packed"
    assert kept(model) < 1.05 * entropy + 600


def rng_normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


FORMS = {
    "plain": rng_normal(20, 20),
    "planes": rng_normal(60, 60),
    "palette": np.rint(3 * rng_normal(60, 60)) + np.float32(0),  # one zero, not two
    "sparse": np.where(rng_normal(60, 60) > 0.7, rng_normal(60, 60), np.float32(0)),
}


@pytest.mark.parametrize("name", FORMS)
def test_the_form_suits_what_is_in_it(name):
    assert form(single(FORMS[name])) == name


def test_bytes_of_exponents_are_coded_and_those_of_mantissas_are_not():
    model = single(rng_normal(200, 300))
    (hole,) = holes(model)
    entry = exact(hole, model).entry
    assert entry["planes"].endswith("a")
    assert "v" in entry["planes"]
    assert kept(model) < 0.95 * len(model)


def test_a_palette_takes_the_entropy_of_its_ranks():
    values = np.rint(2 * rng_normal(200, 200)) + np.float32(0)
    _, counts = np.unique(values, return_counts=True)
    entropy = -(counts * np.log2(counts / counts.sum())).sum() / 8
    assert kept(single(values)) < 1.05 * entropy + 600


def test_zeros_cost_next_to_nothing():
    there = np.random.default_rng(0).random((300, 300)) < 0.05
    size = kept(single(np.where(there, rng_normal(300, 300), np.float32(0))))
    share = there.mean()
    places = -there.size * (share * np.log2(share) + (1 - share) * np.log2(1 - share)) / 8
    assert size < 1.05 * places + 4 * there.sum() + 700


def test_exponents_go_by_how_large_weights_are_around():
    """Rows of different scales take fewer bytes than the same weights in no order."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(160, 160)) * 2.0 ** rng.integers(-6, 6, (160, 1))
    mixed = rng.permutation(rows.reshape(-1)).reshape(rows.shape)
    ordered, shuffled = (kept(single(array.astype(np.float32))) for array in (rows, mixed))
    assert shuffled - ordered > 0.1 * rows.size  # most of a bit for each
