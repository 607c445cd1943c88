import onnx
import pytest
from hwprune.backends.cpu import CpuBackend, turns
from hwprune.backends.cpu.chains import Chain
from hwprune.backends.cpu.layout import block_size
from hwprune.backends.cpu.micro import build

from hwprune.backend import RUN, Backend, Kernel
from hwprune.latency.measure import measure
from hwprune.target import Host
from hwprune.testing.backend_contract import BackendContract
from hwprune.testing.kernels import conv, example

CLAIMS = CpuBackend().capabilities()
BLOCK = block_size()
FUSED = {
    "Conv": "QLinearConv",
    "Gemm": "QGemm",
    "MatMul": "QLinearMatMul",
    "Add": "QLinearAdd",
    "Mul": "QLinearMul",
    "Concat": "QLinearConcat",
    "GlobalAveragePool": "QLinearGlobalAveragePool",
    "AveragePool": "QLinearAveragePool",
}
QUANTISATION = {"QuantizeLinear", "DequantizeLinear"}


@pytest.mark.ort
class TestContract(BackendContract):
    @pytest.fixture
    def backend(self) -> Backend:
        return CpuBackend()


LEVELS = {"extended": "ORT_ENABLE_EXTENDED", "basic": "ORT_ENABLE_BASIC"}
LEVELS |= {"all": "ORT_ENABLE_ALL", "disable": "ORT_DISABLE_ALL"}


def optimised(kernel: Kernel, graph: str = "all") -> list[onnx.NodeProto]:
    """The nodes onnxruntime makes of a kernel's micro-model."""
    backend = CpuBackend(options={"graph": graph})
    (model,) = backend._optimised([build([("k0/", kernel)], BLOCK)])
    return [] if model is None else list(model.graph.node)


@pytest.mark.ort
@pytest.mark.parametrize("op", sorted(CLAIMS.precisions.keys() - {"Reshape", "Flatten"}))
def test_what_is_claimed_as_int8_runs_as_one_quantised_kernel(op):
    if op in {"Squeeze", "Unsqueeze"}:
        pytest.skip("priced as the Reshape it is; fuses nothing of its own")
    nodes = optimised(example(op, "int8"))
    kept = [n.op_type for n in nodes if op == "Transpose" or n.op_type != "Transpose"]
    assert kept == [FUSED.get(op, op)]


@pytest.mark.ort
@pytest.mark.parametrize("activation", sorted(CLAIMS.activations["int8"]))
@pytest.mark.parametrize("op", ["Conv", "Gemm", "MatMul", "Add"])
def test_int8_activations_vanish(op, activation):
    plain = example(op, "int8")
    kernel = Kernel(op, "int8", plain.inputs, plain.output, plain.attributes, (activation,))
    ops = {n.op_type for n in optimised(kernel)} - {"Transpose"}
    assert ops == {FUSED[op]}


@pytest.mark.ort
@pytest.mark.parametrize("activation", sorted(CLAIMS.activations["fp32"]))
def test_fp32_activations_fold_into_the_convolution(activation):
    ops = [n.op_type for n in optimised(conv(fused=(activation,)))]
    assert sorted(ops) == ["Conv", "ReorderInput", "ReorderOutput"]


@pytest.mark.ort
@pytest.mark.parametrize("width", [16, 20, 24, 30])
def test_fp32_residual_folds_into_the_convolution(width):
    nodes = optimised(conv(channels=(16, width), fused=("Add", "Relu")))
    mine = [n.op_type for n in nodes if n.name.startswith("k0/")]
    assert mine == ["Conv"]
    assert not {n.op_type for n in nodes} & {"Add", "Relu"}


@pytest.mark.ort
def test_fp32_bias_folds_into_the_product():
    plain = example("MatMul")
    inputs = (*plain.inputs, (plain.output[-1],))
    kernel = Kernel("MatMul", "fp32", inputs, plain.output, plain.attributes, ("Add",))
    ops = {n.op_type for n in optimised(kernel)} - {"Reshape"}
    assert ops == {"Gemm"}


@pytest.mark.ort
def test_kernels_the_optimiser_renames_are_still_found():
    whole, apart = example("HardSwish"), conv()
    swish, _ = measure(CpuBackend(), [whole, apart], threads=1, runs=5, processes=1)
    assert 1 <= len(swish.runs_ns[0]) <= 5


@pytest.mark.ort
def test_every_example_can_be_built():
    from hwprune.testing.kernels import _EXAMPLES

    for op in _EXAMPLES:
        assert optimised(example(op)), op


@pytest.mark.ort
def test_chains_hold_short_kernels_many_times_with_weights_of_their_own():
    small, large = conv(channels=(32, 32), size=6), conv(channels=(256, 256), size=56)
    short, long = CpuBackend()._chains([small, large])
    assert short.copies > 5 > long.copies == 1
    nodes = onnx.load_model_from_string(short.model).graph.node
    assert len(nodes) == short.copies
    assert len({n.input[1] for n in nodes}) == short.copies


@pytest.mark.ort
def test_a_chain_runs_the_very_node_of_the_optimised_network():
    (chain,) = CpuBackend()._chains([conv(fused=("Add", "Relu"))])
    kinds = {(n.domain, n.op_type) for n in onnx.load_model_from_string(chain.model).graph.node}
    assert kinds == {
        ("com.microsoft.nchwc", "Conv") if BLOCK > 1 else ("com.microsoft", "FusedConv")
    }


@pytest.mark.ort
def test_the_call_itself_is_a_kernel():
    (call,) = measure(CpuBackend(), [RUN], threads=1, runs=5, processes=1)
    assert min(call.runs_ns[0]) > 100


@pytest.mark.ort
@pytest.mark.parametrize("op", ["ReorderInput", "ReorderOutput"])
@pytest.mark.parametrize("channels", [4, 8, 20, 24, 36])
def test_layout_changes_run_at_every_width_on_this_machine(op, channels):
    shape = (1, channels, 6, 6)
    model = build([("k0/", Kernel(op, "fp32", (shape,), shape))], BLOCK).proto()
    (found,) = CpuBackend()._shapes([Chain(model.SerializeToString(), (), 1)])
    ((kind, result),) = found.values()
    assert kind == "float32"
    assert result[1] == (channels if op == "ReorderOutput" else -(-channels // BLOCK) * BLOCK)


@pytest.mark.ort
def test_a_kernel_that_fails_while_it_runs_is_priced_by_a_stand_in():
    bad = Kernel("Gather", "fp32", ((1, 8),), (1, 1), (("axis", "1"), ("const:1", "[99]")))
    good = conv()
    priced, timed = measure(CpuBackend(), [bad, good], threads=1, runs=5, processes=1)
    assert priced.runs_ns[0]
    assert timed.runs_ns[0]


@pytest.mark.parametrize(("spins_for", "rested"), [(0.0, 0.01), (0.055, 0.07), (99.0, 1.0)])
def test_a_session_waits_until_the_others_stopped_spinning(monkeypatch, spins_for, rested):
    class Clock:
        now = 0.0

        def perf_counter(self):
            return self.now

        def process_time(self):
            return min(self.now, spins_for)

        def sleep(self, seconds):
            self.now += seconds

    clock = Clock()
    monkeypatch.setattr(turns, "time", clock)
    turns._rest()
    assert clock.now == pytest.approx(rested, abs=0.011)


@pytest.mark.ort
class TestContractOverSsh(BackendContract):
    @pytest.fixture
    def backend(self, sshd: Host) -> Backend:
        return CpuBackend(sshd)


@pytest.mark.ort
def test_the_same_machine_over_ssh_is_the_same_target(sshd):
    here, there = CpuBackend(), CpuBackend(sshd)
    assert there.identity() == here.identity()
    assert there.capabilities() == here.capabilities()
    assert there.default_threads() == here.default_threads()
    assert there.conditions().keys() == here.conditions().keys()


@pytest.mark.ort
@pytest.mark.parametrize("graph", ["extended", "basic", "disable"])
def test_what_is_claimed_at_lower_optimisation_levels_is_what_happens(graph):
    claims = CpuBackend(options={"graph": graph}).capabilities()
    fused = graph == "extended"
    nodes = optimised(example("Conv", "int8"), graph)
    assert ("Conv" in claims.precisions) == fused == ("QLinearConv" in {n.op_type for n in nodes})
    nodes = optimised(conv(fused=("Relu",)), graph)
    assert ("Relu" in claims.activations["fp32"]) == fused == (len(nodes) == 1)
    nodes = optimised(conv(fused=("Add", "Relu")), graph)
    assert not claims.residual_fused
    assert not claims.layouts.blocked
    assert {"Add", "Relu"} <= {n.op_type for n in nodes}


OPERATOR = {"dynamic-int8": "DynamicQuantizeMatMul"}
OF_MATRICES = sorted(CLAIMS.precisions["Gemm"] - {"int8"})


@pytest.mark.ort
@pytest.mark.parametrize("graph", ["all", "disable"])
@pytest.mark.parametrize("precision", OF_MATRICES)
def test_products_that_round_for_themselves_are_one_node_with_their_bias(precision, graph):
    plain = example("MatMul", precision)
    inputs = (*plain.inputs, (plain.output[-1],))
    with_bias = Kernel("MatMul", precision, inputs, plain.output, (), ("Add",))
    for kernel in (plain, with_bias, example("Gemm", precision)):
        (node,) = optimised(kernel, graph)
        assert node.op_type == OPERATOR.get(precision, "MatMulNBits")
        assert bool(node.input[-1])
        assert len(node.input) == len(optimised(kernel)[0].input)
    assert CpuBackend(options={"graph": graph}).capabilities().bias_fused >= {precision}


@pytest.mark.ort
def test_a_width_without_a_kernel_of_its_own_is_not_offered():
    """Two bits take hundreds of times as long where the runtime unpacks them first."""
    about = CpuBackend()._about
    offered = CLAIMS.precisions["MatMul"]
    assert ("nbits-2/128" in offered) == about["vnni"]
    assert not any(p.startswith("nbits") for op in ("Conv", "Add") for p in CLAIMS.precisions[op])
