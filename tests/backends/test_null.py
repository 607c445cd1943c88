from pathlib import Path

import numpy as np
import onnx
import pytest
from hwprune.backends.null import FakeClock, NullBackend
from hwprune.backends.null.model import kernels_of
from onnx import TensorProto, helper, numpy_helper

from hwprune.backend import Backend
from hwprune.latency.measure import measure
from hwprune.testing.backend_contract import BackendContract
from hwprune.testing.kernels import conv, example


class TestContract(BackendContract):
    @pytest.fixture
    def backend(self) -> Backend:
        return NullBackend()


def price(kernel):
    return measure(NullBackend(), [kernel], 1, 1, 1)[0].runs_ns[0][0]


def test_fp32_output_channels_come_in_blocks_of_16():
    at = {c: price(conv(channels=(16, c))) for c in (17, 31, 32, 33)}
    # What is left between 17 and 32 is the traffic of the output, not arithmetic.
    assert at[32] - at[17] < 0.15 * (at[33] - at[32])


def test_int8_off_the_multiple_of_4_is_slower_than_the_wider_layer():
    assert price(conv("int8", (128, 106))) > price(conv("int8", (128, 112)))
    assert price(conv("int8", (126, 128))) > price(conv("int8", (128, 128)))


def test_the_clock_moves_by_what_was_timed():
    clock = FakeClock()
    samples = measure(NullBackend(clock=clock), [conv(), example("Add")], 1, 3, 2)
    assert clock.now_ns == sum(t for s in samples for runs in s.runs_ns for t in runs)


def test_noise_stays_within_its_bound_and_repeats():
    quiet = price(conv())
    first, second = (measure(NullBackend(noise=0.2), [conv()], 1, 50, 1) for _ in range(2))
    assert first == second
    ratios = np.array(first[0].runs_ns[0]) / quiet
    assert 0.79 < ratios.min() < 0.9 < 1.1 < ratios.max() < 1.21


def test_drift_slows_down_with_the_clock():
    samples = measure(NullBackend(drift=100.0), [conv()], 1, 100, 1)[0].runs_ns[0]
    assert samples[-1] > samples[0]


def quantised(tmp_path: Path, *, leave_second_fp32: bool) -> Path:
    """Two quantised convolutions with a ReLU behind the first; the second can be left in fp32."""
    constants = {
        "w1": np.ones((8, 8, 3, 3), np.int8),
        "w2": np.ones((8, 8, 3, 3), np.float32 if leave_second_fp32 else np.int8),
        "s": np.float32(0.1),
        "z": np.uint8(0),
        "zw": np.int8(0),
    }
    node = helper.make_node

    def dequantize(source: str, target: str, zero: str = "z") -> onnx.NodeProto:
        return node("DequantizeLinear", [source, "s", zero], [target], name=target)

    def quantize(source: str, target: str) -> onnx.NodeProto:
        return node("QuantizeLinear", [source, "s", "z"], [target], name=target)

    source, second = ("c", "w2") if leave_second_fp32 else ("bd", "w2d")
    nodes = [
        quantize("x", "xq"), dequantize("xq", "xd"), dequantize("w1", "w1d", "zw"),
        node("Conv", ["xd", "w1d"], ["a"], name="first", pads=[1] * 4),
        node("Relu", ["a"], ["b"], name="relu"),
        quantize("b", "bq"), dequantize("bq", "bd"),
        *([] if leave_second_fp32 else [dequantize("w2", "w2d", "zw")]),
        node("Conv", [source, second], ["d"], name="second", pads=[1] * 4),
        *([] if leave_second_fp32 else [quantize("d", "dq"), dequantize("dq", "y")]),
    ]  # fmt: skip
    if leave_second_fp32:  # an fp32 operator stands between, so the second is fed by fp32
        nodes.insert(-1, node("Tanh", ["bd"], ["c"], name="tanh"))
    graph = helper.make_graph(
        nodes,
        "quantised",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 8, 6, 6))],
        [
            helper.make_tensor_value_info(
                "d" if leave_second_fp32 else "y", TensorProto.FLOAT, (1, 8, 6, 6)
            )
        ],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    path = tmp_path / "quantised.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


def test_a_file_runs_int8_where_its_data_are_dequantised(tmp_path):
    found = [
        (k.op, k.precision) for k in kernels_of(quantised(tmp_path, leave_second_fp32=False))[1:]
    ]
    assert found == [
        ("QuantizeLinear", "int8"), ("Conv", "int8"), ("Conv", "int8"),
        ("DequantizeLinear", "int8"),
    ]  # fmt: skip


def test_a_file_pays_for_every_change_of_precision(tmp_path):
    found = [
        (k.op, k.precision) for k in kernels_of(quantised(tmp_path, leave_second_fp32=True))[1:]
    ]
    assert found == [
        ("QuantizeLinear", "int8"), ("Conv", "int8"), ("DequantizeLinear", "int8"),
        ("Tanh", "fp32"), ("Conv", "fp32"),
    ]  # fmt: skip


def test_a_file_costs_the_sum_of_its_kernels(tmp_path):
    path, backend = quantised(tmp_path, leave_second_fp32=False), NullBackend()
    total = sum(s.runs_ns[0][0] for s in measure(backend, kernels_of(path), 1, 1, 1))
    assert backend.time_models([path], 1, 0.1, 1)[0].runs_ns[0][0] == pytest.approx(total, rel=1e-3)
