"""Running a twin over data: outputs, inner tensors, and how far two networks agree."""

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from hwprune.errors import UnsupportedModelError

Inputs = tuple[Tensor, ...]  # one tensor per input of the network, samples first
Data = NDArray[np.float32] | Tensor | Inputs  # a network with one input needs no tuple

_CACHED_BYTES = 8 << 20  # of the largest activation: beyond, layers wait for memory
_MOST = 64
_BROKEN = 1e6  # nats
_MIXED = 0.05  # of the largest output: more is no rounding


@torch.inference_mode()
def outputs(module: fx.GraphModule, x: Data) -> list[Tensor]:
    """All graph outputs for `x`, batch by batch, joined along the first axis."""
    parts = [_run(module, chunk) for chunk in batches(module, x)]
    return [torch.cat(column) for column in zip(*parts, strict=True)]


@torch.inference_mode()
def check_batches(module: fx.GraphModule, x: Data, each: int) -> None:
    """Whether two portions of `each` samples give the same at once as one after the other.

    A network written for batch 1 may reshape its batch, of length 1, into any axis beside it.

    Raises UnsupportedModelError.
    """
    first, second = (tuple(t[at : at + each] for t in inputs_of(x)) for at in (0, each))
    if len(second[0]) < each:
        return
    pairs = zip(_run(module, first), _run(module, second), strict=True)
    apart = [torch.cat(pair) for pair in pairs]
    try:
        joined = _run(module, tuple(torch.cat(pair) for pair in zip(first, second, strict=True)))
        same = all(_alike(a, b) for a, b in zip(apart, joined, strict=True))
    except RuntimeError:
        same = False
    if not same:
        raise UnsupportedModelError(
            "samples get mixed up when the network computes several at once",
            "its reshapes leave open where the batch goes; export it with a batch of 2 or more, "
            "if that is what it is to run with",
        )


@torch.inference_mode()
def capture(module: fx.GraphModule, x: Data, tensors: Collection[str]) -> dict[str, Tensor]:
    """The named ONNX tensors for `x`, joined along the first axis."""
    recorder = _Recorder(module, frozenset(tensors))
    for chunk in batches(module, x):
        recorder.run(*chunk)
    return {name: torch.cat(parts) for name, parts in recorder.parts.items()}


def _run(module: fx.GraphModule, x: Inputs) -> tuple[Tensor, ...]:
    result = module(*x)
    return result if isinstance(result, tuple) else (result,)


def _alike(a: Tensor, b: Tensor) -> bool:
    """Up to rounding, which deep networks amplify."""
    if a.shape != b.shape:
        return False
    a, b = a.double(), b.double()
    return bool((a - b).abs().max() <= _MIXED * a.abs().max() + 1e-6)


def is_classifier(found: Sequence[Tensor]) -> bool:
    """Whether the outputs are those of one classifier: N x classes."""
    return len(found) == 1 and found[0].ndim == 2 and found[0].shape[1] > 1


def divergence(before: Sequence[Tensor], after: Sequence[Tensor]) -> float:
    """How far two networks' outputs are apart, per sample.

    KL divergence in nats for the logits (or probabilities) of one classifier; else half the squared
    error relative to the variance of each output, averaged. Outputs that are not finite cost a lot.
    """
    if is_classifier(before):
        loss = kl(before[0], after[0])
    else:
        pairs = zip(before, after, strict=True)
        errors = [float((a - b).square().mean() / a.var().clamp_min(1e-12)) for a, b in pairs]
        loss = 0.5 * sum(errors)
    return as_loss(loss)


def as_loss(value: float) -> float:
    """Never negative, as rounding may leave it; a lot where it is not finite."""
    return max(0.0, value) if math.isfinite(value) else _BROKEN


def kl(p: Tensor, q: Tensor) -> float:
    """Mean KL(p || q) over the samples, in nats; logits or probabilities along the last axis."""
    log_p, log_q = log_probabilities(p), log_probabilities(q)
    return float((log_p.exp() * (log_p - log_q)).sum(-1).mean())


def log_probabilities(output: Tensor) -> Tensor:
    """Log-softmax of logits; an output of probabilities is only normalised. Double precision."""
    wide = output.double()
    if wide.min() >= 0 and (wide.sum(-1) - 1).abs().max() < 1e-3:
        positive = wide.clamp_min(1e-12)
        return (positive / positive.sum(-1, keepdim=True)).log()
    return wide.log_softmax(-1)


def top1(logits: Tensor, y: Data | NDArray[np.int64]) -> float:
    """Share of the samples whose largest logit is the label, 0..1."""
    return float((logits.argmax(-1) == torch.as_tensor(y)).float().mean())


class _Recorder(fx.Interpreter):
    def __init__(self, module: fx.GraphModule, wanted: frozenset[str]) -> None:
        super().__init__(module)
        self.wanted = wanted
        self.parts: dict[str, list[Tensor]] = {name: [] for name in sorted(wanted)}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        name = n.meta.get("tensor", "")
        if name in self.wanted:
            self.parts[name].append(value)
        return value


def inputs_of(x: Data, count: int | None = None) -> Inputs:
    """One tensor per input, the first `count` samples of each; images with channels innermost."""
    given = x if isinstance(x, tuple) else (x,)
    return tuple(_innermost(torch.as_tensor(tensor)[:count]) for tensor in given)


def split(x: Data, size: int) -> tuple[Inputs, ...]:
    """`x` in portions of `size` samples."""
    return tuple(zip(*(torch.split(tensor, size) for tensor in inputs_of(x)), strict=True))


def batches(module: fx.GraphModule, x: Data) -> tuple[Inputs, ...]:
    """`x` in batches whose activations stay in the caches, images with the channels innermost."""
    each = int(module.meta["sample_bytes"])
    return split(x, min(_MOST, max(1, _CACHED_BYTES // each)))


def _innermost(x: Tensor) -> Tensor:
    """OneDNN's convolutions are fastest with the channels innermost."""
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x
