"""Models under construction: nodes of many kernels, with weights that are declared, not stored."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from hwprune.backends.cpu.layout import DOMAIN
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from hwprune.backend import Shape

OPSET = 20
CONTRIB = "com.microsoft"

Weight = tuple[str, str, Shape]  # name, numpy type, shape of a tensor that is made up


@dataclass
class MicroModel:
    """Nodes of many kernels, independent of each other; `prefix` is that of the current one."""

    prefix: str = ""
    block: int = 1  # channels, of the runtime's blocked layout
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    inputs: dict[str, tuple[int, Shape]] = field(default_factory=dict)  # name -> type, shape
    outputs: dict[str, tuple[int, Shape | None]] = field(default_factory=dict)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    weights: list[Weight] = field(default_factory=list)

    def proto(self) -> onnx.ModelProto:
        """The whole as one model."""
        values = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes,
            "kernels",
            [values(n, t, s) for n, (t, s) in self.inputs.items()],
            [values(n, t, s) for n, (t, s) in self.outputs.items()],
            self.constants,
        )
        opsets = [helper.make_opsetid(d, v) for d, v in (("", OPSET), (DOMAIN, 1), (CONTRIB, 1))]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def input(self, shape: Shape, kind: int = TensorProto.FLOAT) -> str:
        """A new graph input."""
        name = f"{self.prefix}in{len(self.inputs)}"
        self.inputs[name] = (kind, shape)
        return name

    def constant(self, values: NDArray[Any]) -> str:
        """A new initializer."""
        name = f"{self.prefix}const{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def weight(self, shape: Shape, kind: str = "float32") -> str:
        """A new initializer whose values do not matter."""
        name = f"{self.prefix}weight{len(self.constants)}"
        self.constants.append(declared(name, kind, shape))
        self.weights.append((name, kind, shape))
        return name

    def node(self, op: str, inputs: Sequence[str], outputs: int = 1, **more: Any) -> list[str]:
        """A new node; its output tensors. `domain` and attributes by keyword."""
        prefix = more.pop("prefix", self.prefix)
        name = f"{prefix}{op}{len(self.nodes)}"
        made = [f"{name}:{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), made, name=name, **more))
        return made

    def result(self, tensors: Sequence[str], shape: Shape, kind: int = TensorProto.FLOAT) -> None:
        """Makes tensors graph outputs; only a single one has the kernel's output shape."""
        for tensor in tensors:
            self.outputs[tensor] = (kind, shape if len(tensors) == 1 else None)


def declared(name: str, kind: str, shape: Shape) -> onnx.TensorProto:
    """An initializer without its values: they are given when the session is created."""
    tensor = TensorProto(name=name, dims=shape, data_location=TensorProto.EXTERNAL)
    tensor.data_type = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    size = np.dtype(kind).itemsize * int(np.prod(shape))
    for key, value in (("location", "made up"), ("offset", 0), ("length", size)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor
