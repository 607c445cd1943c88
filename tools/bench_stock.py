"""What people use today to quantise a file: tools of onnxruntime, brevitas, NNCF, Intel."""

import subprocess
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hwprune.frontend.models import load_model
from hwprune.graph.read import read_graph, to_proto
from hwprune.network.run import split

Floats = NDArray[np.float32]
Maker = Callable[[Path, Path, Floats], None]  # source, target, calibration samples


def static(source: Path, target: Path, x: Floats) -> None:
    """`quantize_static`: QDQ, per channel, after its own preprocessing."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    name = read_graph(source).inputs[0].name

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rest = iter({name: sample[None]} for sample in x)

        def get_next(self) -> dict[str, Floats] | None:
            return next(self.rest, None)

    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "ready.onnx"
        quant_pre_process(source, ready)
        quantize_static(ready, target, Reader(), per_channel=True)


def dynamic(source: Path, target: Path, x: Floats) -> None:
    """`quantize_dynamic`: int8 weights, activations rounded by the range of each call."""
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "ready.onnx"
        quant_pre_process(source, ready)
        quantize_dynamic(ready, target, weight_type=QuantType.QUInt8)


def brevitas(source: Path, target: Path, x: Floats) -> None:
    """Brevitas' flow for fixed backends: its graph quantisation, calibration and QCDQ export."""
    from brevitas.export import export_onnx_qcdq
    from brevitas.graph.calibrate import calibration_mode
    from brevitas.graph.quantize import preprocess_for_quantize, quantize

    from hwprune.network.twin import to_module

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        twin = to_module(load_model(str(source), None, {}, 1).graph)
        plain = torch.fx.symbolic_trace(twin)
        module = quantize(preprocess_for_quantize(plain))
        samples = torch.from_numpy(x)
        with calibration_mode(module):
            for batch in split(samples, 64):
                module(*batch)
        export_onnx_qcdq(module.eval(), args=samples[:1], export_path=str(target), opset_version=17)


def nncf(source: Path, target: Path, x: Floats) -> None:
    """NNCF's post-training quantisation of the file, with its defaults; where it is installed."""
    import nncf
    import onnx

    graph = read_graph(source)
    samples = nncf.Dataset([{graph.inputs[0].name: sample[None]} for sample in x])
    onnx.save(nncf.quantize(to_proto(graph), samples, subset_size=len(x)), target)


def neural_compressor(python: Path) -> Maker:
    """neural-compressor, which runs in the environment of `python`."""

    def make(source: Path, target: Path, x: Floats) -> None:
        with tempfile.TemporaryDirectory() as folder:
            samples, plain = Path(folder) / "samples.npy", Path(folder) / "plain.onnx"
            np.save(samples, x)
            plain.write_bytes(to_proto(read_graph(source)).SerializeToString())
            command = [python, Path(__file__).with_name("neural_compressor_file.py").resolve()]
            subprocess.run(
                [*command, plain, target.resolve(), samples], cwd=folder, check=True,
                capture_output=True,
            )  # fmt: skip

    return make


STOCK: Mapping[str, Maker] = {
    "quantize_static": static,
    "quantize_dynamic": dynamic,
    "brevitas QCDQ": brevitas,
    "NNCF": nncf,
}
