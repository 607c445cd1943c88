# ruff: noqa: D102 - the name of a test is its documentation
"""What every target must do. Subclass it, give the fixture `backend`, and pytest runs the rest."""

from pathlib import Path
from statistics import median

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hwprune.backend import Backend, Samples
from hwprune.errors import HwpruneError
from hwprune.latency.measure import measure
from hwprune.precision import FP32, INT8, is_known, of_matrices
from hwprune.testing.kernels import conv, example


class BackendContract:
    """The contract of `hwprune.backend.Backend`.

    class TestMine(BackendContract):
        @pytest.fixture
        def backend(self) -> Backend:
            return MyBackend()
    """

    @pytest.fixture
    def backend(self) -> Backend:
        """The target under test; must be usable on this machine."""
        raise NotImplementedError("give the fixture `backend` in your subclass")

    def test_is_usable(self, backend: Backend) -> None:
        assert backend.missing() is None
        assert backend.default_threads() >= 1
        assert backend.name.isidentifier()

    def test_identity_is_stable(self, backend: Backend) -> None:
        assert backend.identity() == backend.identity()
        assert backend.identity().backend == backend.name

    def test_conditions_are_words(self, backend: Backend) -> None:
        assert all(isinstance(text, str) for pair in backend.conditions().items() for text in pair)

    def test_runtime_options_can_be_given_back(self, backend: Backend) -> None:
        given = dict(backend.runtime_options)
        again = type(backend)(options=given) if given else backend  # type: ignore[call-arg]
        assert again.runtime_options == given
        assert again.session_options(1) == backend.session_options(1)

    def test_capabilities_are_consistent(self, backend: Backend) -> None:
        found = backend.capabilities()
        assert found == backend.capabilities()
        assert all(map(is_known, set().union(*found.precisions.values()) - {FP32}))
        assert set(found.activations) | found.residual_fused <= {FP32, INT8}
        assert all(map(is_known, found.bias_fused))
        of_matrices_only = [p for o, p in found.precisions.items() if o not in ("Gemm", "MatMul")]
        assert not any(map(of_matrices, set().union(*of_matrices_only)))
        assert found.passthrough <= set(found.precisions)
        assert 1 <= found.weight_bits <= 8

    def test_samples_have_the_shape_asked_for(self, backend: Backend) -> None:
        (samples,) = measure(backend, [conv()], threads=1, runs=8, processes=2)
        assert len(samples.runs_ns) == len(samples.cpu_share) == 2
        assert all(1 <= len(runs) <= 8 for runs in samples.runs_ns)
        assert all(isinstance(t, int) and t > 0 for runs in samples.runs_ns for t in runs)

    def test_no_kernels_no_samples(self, backend: Backend) -> None:
        assert measure(backend, [], threads=1, runs=5, processes=1) == []

    def test_answers_in_the_order_asked(self, backend: Backend) -> None:
        widths = (16, 256, 32, 128)
        kernels = [conv(channels=(64, w), size=28) for w in widths]
        times = [_ns(s) for s in measure(backend, kernels, threads=1, runs=10, processes=1)]
        by_time = [w for _, w in sorted(zip(times, widths, strict=True))]
        assert by_time == sorted(widths)

    @pytest.mark.parametrize("precision", ["fp32", "int8"])
    def test_more_products_cost_more(self, backend: Backend, precision: str) -> None:
        if precision not in backend.capabilities().precisions.get("Conv", {"fp32"}) | {"fp32"}:
            pytest.skip("no such convolution")
        few, many = (conv(precision, (c, c), size=28) for c in (16, 128))
        small, large = measure(backend, [few, many], threads=1, runs=10, processes=1)
        assert _ns(large) > 4 * _ns(small)

    def test_every_claimed_precision_can_be_timed(self, backend: Backend) -> None:
        claimed = backend.capabilities().precisions
        kernels = [example(op, p) for op, precisions in claimed.items() for p in precisions]
        found = measure(backend, kernels, threads=1, runs=5, processes=1)
        assert all(_ns(s) > 0 for s in found)

    def test_every_claimed_fusion_can_be_timed(self, backend: Backend) -> None:
        claims = backend.capabilities()
        kernels = [conv(p, fused=(a,)) for p, ops in claims.activations.items() for a in ops]
        kernels += [conv(p, fused=("Add", "Relu")) for p in claims.residual_fused]
        found = measure(backend, kernels, threads=1, runs=5, processes=1)
        assert all(_ns(s) > 0 for s in found)

    def test_boundaries_can_be_timed(self, backend: Backend) -> None:
        kernels = [example(op, "int8") for op in ("QuantizeLinear", "DequantizeLinear")]
        found = measure(backend, kernels, threads=1, runs=5, processes=1)
        assert all(_ns(s) > 0 for s in found)

    def test_an_unknown_operator_gets_a_price(self, backend: Backend) -> None:
        kernels = [example("NoSuchOperator"), conv()]
        strange, known = measure(backend, kernels, threads=1, runs=5, processes=1)
        assert _ns(strange) > 0
        assert _ns(known) > 0

    def test_models_are_timed_in_turns(self, backend: Backend, tmp_path: Path) -> None:
        small, large = tmp_path / "small.onnx", tmp_path / "large.onnx"
        small.write_bytes(_network(16).SerializeToString())
        large.write_bytes(_network(128).SerializeToString())
        found = backend.time_models([large, small], threads=1, seconds=0.1, processes=2)
        assert all(len(s.runs_ns) == 2 for s in found)
        counts = [[len(runs) for runs in s.runs_ns] for s in found]
        assert min(counts[0]) >= 5
        assert _ns(found[0]) > 2 * _ns(found[1])

    def test_a_missing_model_is_an_error_with_its_name(
        self, backend: Backend, tmp_path: Path
    ) -> None:
        with pytest.raises(HwpruneError, match=r"absent\.onnx"):
            backend.time_models([tmp_path / "absent.onnx"], threads=1, seconds=0.1, processes=1)


def _ns(samples: Samples) -> float:
    return min(median(runs) for runs in samples.runs_ns)


def _network(width: int) -> onnx.ModelProto:
    """Two 3x3 convolutions of `width` channels on 28x28, with a ReLU between."""
    weights = [
        numpy_helper.from_array(np.full((width, c, 3, 3), 0.01, np.float32), f"w{c}")
        for c in (3, width)
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w3"], ["a"], name="first", pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Conv", ["b", f"w{width}"], ["y"], name="second", pads=[1] * 4),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 28, 28))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, width, 28, 28))],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
