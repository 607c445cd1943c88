"""Running a twin over data: outputs, inner tensors, and how far two networks agree."""

from collections.abc import Collection
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, fx

Data = NDArray[np.float32] | Tensor


@torch.inference_mode()
def outputs(module: fx.GraphModule, x: Data, batch: int = 64) -> list[Tensor]:
    """All graph outputs for `x` (samples first), batch by batch, joined along the first axis."""
    parts: list[tuple[Tensor, ...]] = []
    for chunk in _batches(x, batch):
        result = module(chunk)
        parts.append(result if isinstance(result, tuple) else (result,))
    return [torch.cat(column) for column in zip(*parts, strict=True)]


@torch.inference_mode()
def capture(
    module: fx.GraphModule, x: Data, tensors: Collection[str], batch: int = 64
) -> dict[str, Tensor]:
    """The named ONNX tensors for `x`, joined along the first axis."""
    recorder = _Recorder(module, frozenset(tensors))
    for chunk in _batches(x, batch):
        recorder.run(chunk)
    return {name: torch.cat(parts) for name, parts in recorder.parts.items()}


def kl(p_logits: Tensor, q_logits: Tensor) -> float:
    """Mean KL(p || q) over the samples, in nats; classes along the last axis."""
    p, q = F.log_softmax(p_logits, -1), F.log_softmax(q_logits, -1)
    return float((p.exp() * (p - q)).sum(-1).mean())


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


def _batches(x: Data, batch: int) -> tuple[Tensor, ...]:
    data = torch.as_tensor(x)
    parts = torch.split(data, batch)
    if data.ndim != 4:
        return parts
    # oneDNN's convolutions are fastest with the channels innermost.
    return tuple(part.contiguous(memory_format=torch.channels_last) for part in parts)
