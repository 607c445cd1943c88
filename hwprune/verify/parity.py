"""Whether the written file computes what its torch twin computes."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, fx

from hwprune.network.run import Data, inputs_of, outputs
from hwprune.quantize.noise import sqnr_db
from hwprune.verify.outputs import file_outputs

_SAMPLES = 64


@dataclass(frozen=True, slots=True)
class Parity:
    """How far file and twin differ; differences are taken where both are finite."""

    max_abs: float  # largest difference over all outputs
    max_rel: float  # the same, in units of the output's largest magnitude
    sqnr_db: dict[str, float]  # per output; inf where equal, -inf where mismatched
    mismatched: tuple[str, ...] = ()  # outputs whose shape or pattern of NaN and inf differs


def parity(module: fx.GraphModule, model: Path, x: Data, threads: int = 1) -> Parity:
    """Compares the outputs of a twin and of a file in onnxruntime; nothing is judged here.

    Args:
        module: fp32 or fake-quantised twin.
        model: The file, of static shapes.
        x: Samples first; the first 64 are used.
        threads: Of onnxruntime.
    """
    few = inputs_of(x, _SAMPLES)
    expected = outputs(module, few)
    found = file_outputs(model, tuple(tensor.numpy() for tensor in few), threads)
    pairs = list(zip(expected, found, strict=True))
    names = _output_names(module)
    finite = [_finite(e, f) for e, f in pairs if e.shape == f.shape]
    return Parity(
        max((float((e - f).abs().max()) for e, f in finite), default=0.0),
        max((_relative(e, f) for e, f in finite), default=0.0),
        {name: _sqnr(e, f) for name, (e, f) in zip(names, pairs, strict=True)},
        tuple(name for name, (e, f) in zip(names, pairs, strict=True) if not _same_form(e, f)),
    )


def _output_names(module: fx.GraphModule) -> list[str]:
    """The ONNX names of the module's outputs, in order."""
    result = next(node for node in module.graph.nodes if node.op == "output").args[0]
    parts = result if isinstance(result, (tuple, list)) else (result,)
    return [str(part.meta["tensor"]) for part in parts if isinstance(part, fx.Node)]


def _same_form(expected: Tensor, found: Tensor) -> bool:
    if expected.shape != found.shape:
        return False
    special = [
        torch.nan_to_num(t, 1.0, 2.0, 3.0).where(~t.isfinite(), 0) for t in (expected, found)
    ]
    return torch.equal(*special)


def _finite(expected: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
    """Both in double precision, with zeros where either is not finite."""
    both = expected.isfinite() & found.isfinite()
    return expected.double().where(both, 0), found.double().where(both, 0)


def _relative(expected: Tensor, found: Tensor) -> float:
    largest = float(expected.abs().max())
    return float((expected - found).abs().max()) / largest if largest > 0 else 0.0


def _sqnr(expected: Tensor, found: Tensor) -> float:
    if not _same_form(expected, found):
        return -math.inf
    return sqnr_db(*_finite(expected, found))
