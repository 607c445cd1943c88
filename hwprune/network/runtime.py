"""Nodes without a torch twin, computed by onnxruntime inside the twin.

They take part in everything but training: no gradient goes back through them. Channels do not flow
through them either (their neighbours are frozen, `hwprune.graph.coupling`).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hwprune.graph.recurrent import GATES
from hwprune.network.call import Call, Shape, is_constant, present, shape, unsupported

_IR = 10  # onnxruntime lags behind onnx

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Batching:
    """Where samples run: the axis of each moving input, its length in the graph, and the axis of
    each output.
    """

    inputs: tuple[int, ...]
    lengths: tuple[int, ...]
    outputs: tuple[int, ...]


class RuntimeNode(nn.Module):
    """One ONNX node in a session of its own.

    It is given as many samples at a time as the graph's batch has: it may have been made for them.
    """

    def __init__(
        self, name: str, model: bytes, batching: Batching, session: onnxruntime.InferenceSession
    ) -> None:
        super().__init__()
        self.name, self.model, self.batching = name, model, batching
        self.session: onnxruntime.InferenceSession | None = session

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """All outputs of the node; no gradient goes back through them."""
        portions = [self._run(p) for p in self._portions([x.detach().cpu() for x in inputs])]
        pairs = zip(zip(*portions, strict=True), self.batching.outputs, strict=True)
        return tuple(
            torch.cat(parts, axis) if len(parts) > 1 else parts[0] for parts, axis in pairs
        )

    def __getstate__(self) -> dict[str, Any]:
        """Copies open a session of their own, at the first run."""
        return self.__dict__ | {"session": None}

    def _run(self, inputs: list[Tensor]) -> list[Tensor]:
        if self.session is None:
            self.session = _open(self.model)
        names = [value.name for value in self.session.get_inputs()]
        feeds = {n: x.contiguous().numpy() for n, x in zip(names, inputs, strict=True)}
        return [torch.from_numpy(np.array(value)) for value in self.session.run(None, feeds)]

    def _portions(self, inputs: list[Tensor]) -> list[list[Tensor]]:
        """The inputs that hold more samples than the graph's batch, cut; the others as they are."""
        if not inputs:
            return [[]]
        places = list(zip(inputs, self.batching.inputs, self.batching.lengths, strict=True))
        counts = [x.shape[axis] // length if length else 1 for x, axis, length in places]
        most = max(counts)
        cut = [
            torch.split(x, length, axis) if count == most else [x] * most
            for (x, axis, length), count in zip(places, counts, strict=True)
        ]
        return [list(portion) for portion in zip(*cut, strict=True)]


def runtime_call(node: gs.Node, opset: int) -> Call:
    """The node as a call of onnxruntime.

    Raises UnsupportedModelError if onnxruntime refuses it, too.
    """
    moving = [i for i in range(len(node.inputs)) if present(node, i) and not is_constant(node, i)]
    try:
        model = _alone(node, moving, opset).SerializeToString()
        session = _open(model)
    except Exception as error:  # whatever it raises, the node cannot be run
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise unsupported(node, f"neither torch nor onnxruntime runs it: {reason}") from error
    target = RuntimeNode(f"{node.name!r} ({node.op})", model, _batching(node, moving), session)
    return Call(target, tuple(moving), many=True)


def _batching(node: gs.Node, moving: list[int]) -> Batching:
    """Axis 0, but for recurrent operators whose first axis is time."""
    inputs, outputs = dict.fromkeys(moving, 0), [0] * len(node.outputs)
    if node.op in GATES and not node.attrs.get("layout", 0):
        inputs = {i: 0 if i == 4 else 1 for i in moving}  # 4: the length of each sequence
        outputs = [2, 1, 1][: len(node.outputs)]
    shapes: list[Shape] = [shape(node.inputs[i]) for i in moving]
    axes = [inputs[i] for i in moving]
    lengths = [s[a] if len(s) > a else 0 for s, a in zip(shapes, axes, strict=True)]
    return Batching(tuple(axes), tuple(lengths), tuple(outputs))


def _alone(node: gs.Node, moving: list[int], opset: int) -> onnx.ModelProto:
    """A model of this node only, with its constants inside."""
    inputs = [_copied(t, f"i{i}", i in moving) for i, t in enumerate(node.inputs)]
    outputs = [gs.Variable(f"o{i}", t.dtype or np.float32) for i, t in enumerate(node.outputs)]
    copy = gs.Node(node.op, node.name, dict(node.attrs), inputs, outputs)
    graph = gs.Graph([copy], [inputs[i] for i in moving], outputs, opset=opset)
    model: onnx.ModelProto = gs.export_onnx(graph, do_type_check=False)
    model.ir_version = min(model.ir_version, _IR)
    return model


def _copied(tensor: gs.Tensor, name: str, moving: bool) -> gs.Tensor:
    if moving:
        return gs.Variable(name, tensor.dtype)
    return (
        gs.Variable.empty() if tensor.is_empty() else gs.Constant(name, np.asarray(tensor.values))
    )


def _open(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
