"""The trainable twin of a graph: a `torch.fx.GraphModule`, and the way back.

Every fx node carries `meta["tensor"]`, the ONNX tensor it computes ("" for helpers such as the
padding in front of a convolution), and `meta["node"]`, the ONNX node it belongs to ("" for inputs
and constants).
"""

import operator
import re
from typing import cast

import numpy as np
import onnx_graphsurgeon as gs
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from hwprune.errors import UnsupportedModelError
from hwprune.graph.cost import largest_tensor_bytes
from hwprune.network.call import Call, Transform, present, unsupported
from hwprune.network.operators import translate
from hwprune.network.runtime import runtime_call

Initializers = dict[str, tuple[str, Transform]]  # parameter path -> (initializer, transform)


def to_module(graph: gs.Graph, runtime: bool = True) -> fx.GraphModule:
    """Builds the twin, in evaluation mode.

    With `runtime`, nodes that torch cannot compute are left to onnxruntime; the twin can be run
    then, but not be trained through them.

    Constant weights of Conv, ConvTranspose, Gemm and MatMul live in the `torch.nn` module of the
    same kind; other floating-point constants of more than one value are parameters of the root,
    the rest are buffers. `module.initializers` maps parameter paths to initializers;
    `module.meta["sample_bytes"]` is the size of its largest activation. Inputs may have any batch.

    Raises:
        UnsupportedModelError: A node has no twin (and onnxruntime does not run it).
    """
    return _Builder(graph, runtime).build()


def initializers(module: fx.GraphModule) -> Initializers:
    """Where each parameter and buffer of a twin came from."""
    return cast("Initializers", module.meta["initializers"])


def write_back(module: fx.GraphModule, graph: gs.Graph) -> None:
    """Puts the twin's parameters and buffers into the graph's initializers, in place."""
    tensors = graph.tensors()
    state = module.state_dict(keep_vars=True)
    for path, (name, transform) in initializers(module).items():
        constant = tensors[name]
        value = state[path].detach().cpu()
        flat = value.T if transform == "transpose" else value
        constant.values = np.array(flat.numpy(), constant.dtype).reshape(constant.shape)


class _Builder:
    def __init__(self, graph: gs.Graph, runtime: bool) -> None:
        self.source, self.runtime = graph, runtime
        self.root = nn.Module()
        self.fx = fx.Graph()
        self.env: dict[str, fx.Node] = {}
        self.values: dict[tuple[str, Transform], Tensor] = {}
        self.initializers: Initializers = {}
        self.taken = set(dir(fx.GraphModule(nn.Module(), fx.Graph()))) | {"initializers"}

    def build(self) -> fx.GraphModule:
        for tensor in self.source.inputs:
            placed = self.fx.placeholder(self._unique(tensor.name))
            self._define(placed, tensor.name, "")
        for node in self.source.nodes:
            self._add(node)
        outputs = tuple(self._read(tensor) for tensor in self.source.outputs)
        last = self.fx.output(outputs[0] if len(outputs) == 1 else outputs)
        last.meta |= {"tensor": "", "node": ""}
        module = fx.GraphModule(self.root, self.fx)
        # `meta` survives copy.deepcopy, plain attributes do not.
        module.meta["initializers"] = self.initializers
        module.meta["sample_bytes"] = largest_tensor_bytes(self.source)
        module.meta["_user_preserved_attributes"] = {"initializers": self.initializers}
        module.initializers = self.initializers  # type: ignore[assignment]
        return module.eval()

    def _add(self, node: gs.Node) -> None:
        call = self._translated(node)
        args = [self._read(node.inputs[i]) if present(node, i) else None for i in call.inputs]
        if call.pad:
            args[0] = self._helper(args[0], call.pad, node)
        result = self._call(node, call, args)
        if call.crop:
            result.meta |= {"tensor": "", "node": node.name}
            result = self._helper(result, call.crop, node)
        if not call.many:
            self._check_single(node)
            self._define(result, node.outputs[0].name, node.name)
            return
        result.meta |= {"tensor": "", "node": node.name}
        for i, tensor in enumerate(node.outputs):
            part = self.fx.call_function(operator.getitem, (result, i))
            self._define(part, tensor.name, node.name)

    def _translated(self, node: gs.Node) -> Call:
        try:
            return translate(node)
        except UnsupportedModelError:
            if not self.runtime:
                raise
            return runtime_call(node, int(self.source.opset))

    def _check_single(self, node: gs.Node) -> None:
        outputs = {id(tensor) for tensor in self.source.outputs}
        for tensor in node.outputs[1:]:
            if tensor.outputs or id(tensor) in outputs:
                raise unsupported(node, f"its extra output {tensor.name!r} is used")

    def _call(self, node: gs.Node, call: Call, args: list[fx.Node | None]) -> fx.Node:
        if not isinstance(call.target, nn.Module):
            return self.fx.call_function(call.target, tuple(args), dict(call.kwargs))
        name = self._unique(node.name)
        self.root.add_module(name, call.target)
        for attribute, (index, transform) in call.weights.items():
            value = self._value(node.inputs[index], transform)
            _attach(call.target, attribute, value)
            self.initializers[f"{name}.{attribute}"] = (node.inputs[index].name, transform)
        _materialize(call.target)
        return self.fx.call_module(name, tuple(args), dict(call.kwargs))

    def _helper(self, x: fx.Node | None, pad: tuple[int, ...], node: gs.Node) -> fx.Node:
        padded = self.fx.call_function(F.pad, (x, pad))
        padded.meta |= {"tensor": "", "node": node.name}
        return padded

    def _read(self, tensor: gs.Tensor) -> fx.Node:
        if tensor.name not in self.env:
            name = self._unique(tensor.name)
            value = self._value(tensor, "identity")
            _attach(self.root, name, value)
            self.initializers[name] = (tensor.name, "identity")
            self._define(self.fx.get_attr(name), tensor.name, "")
        return self.env[tensor.name]

    def _value(self, tensor: gs.Constant, transform: Transform) -> Tensor:
        """The parameter or buffer for an initializer: one, however many nodes share it."""
        key = (tensor.name, transform)
        if key not in self.values:
            array = np.asarray(tensor.values)
            flat = array.T if transform == "transpose" else array
            value = torch.tensor(np.ascontiguousarray(flat).reshape(flat.shape))
            self.values[key] = nn.Parameter(value) if _is_trained(value) else value
        return self.values[key]

    def _define(self, node: fx.Node, tensor: str, onnx_node: str) -> None:
        node.meta |= {"tensor": tensor, "node": onnx_node}
        self.env[tensor] = node

    def _unique(self, name: str) -> str:
        base = re.sub(r"\W+", "_", name).strip("_") or "node"
        base = f"n{base}" if base[0].isdigit() else base
        candidate, count = base, 1
        while candidate in self.taken:
            candidate, count = f"{base}_{count}", count + 1
        self.taken.add(candidate)
        return candidate


def _is_trained(value: Tensor) -> bool:
    """Scalars (scales, epsilons) and masks with infinities are part of the formula."""
    return value.is_floating_point() and value.numel() > 1 and bool(value.isfinite().all())


def _attach(owner: nn.Module, name: str, value: Tensor) -> None:
    """Sets a parameter or buffer, of the kind and shape that the module declared, if it did."""
    declared = owner._parameters.get(name)
    if declared is not None:
        fits = isinstance(value, nn.Parameter) and value.shape == declared.shape
        setattr(owner, name, value if fits else nn.Parameter(value.detach().view_as(declared)))
    elif isinstance(value, nn.Parameter) and name not in owner._buffers:
        owner.register_parameter(name, value)
    else:
        owner.register_buffer(name, value.detach())


def _materialize(module: nn.Module) -> None:
    """Gives what stayed on the meta device (BatchNorm's counter) a value."""
    for name, buffer in list(module.named_buffers(recurse=False)):
        if buffer.is_meta:
            module.register_buffer(name, torch.zeros(buffer.shape, dtype=buffer.dtype))
