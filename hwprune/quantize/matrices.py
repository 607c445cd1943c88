"""Products that round for themselves, in the twin: the kernels that read and write fp32.

What they do to activations follows onnxruntime: MatMulNBits (accuracy level 4) rounds each `block`
values of a row to int8 by the largest of them, DynamicQuantizeMatMul the whole of a call to uint8
by its range (DynamicQuantizeLinear, ONNX opset 11).
"""

from collections.abc import Callable, Mapping
from functools import partial

import onnx_graphsurgeon as gs
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from hwprune.backend import Capabilities
from hwprune.graph.matrix import is_plain
from hwprune.network import linear
from hwprune.precision import FP32, Blockwise, blockwise, of_matrices
from hwprune.quantize.blocks import quantize_blocks
from hwprune.quantize.encodings import Array, Encoding, covering

_LEAST = 1e-30  # of a range: what is divided by is never zero


def matrices(
    graph: gs.Graph, kernels: Mapping[str, str], capabilities: Capabilities
) -> dict[str, str]:
    """The nodes that round for themselves, with their kernels, in graph order.

    A node whose kernel the target has not, or not for these operands, stays fp32.
    """
    able = {n.name: capabilities.precisions.get(n.op, ()) for n in graph.nodes if is_plain(n)}
    chosen = {name: kernels.get(name, FP32) for name in able}
    return {n: kernel for n, kernel in chosen.items() if of_matrices(kernel) and kernel in able[n]}


def round_matrices(
    module: fx.GraphModule, graph: gs.Graph, kernels: Mapping[str, str], capabilities: Capabilities
) -> fx.GraphModule:
    """`module`, a twin of `graph`, with such products in place of their layers.

    Parameters keep their paths, and gradients pass the rounding as if there were none.
    """
    for path, layer in rounded_layers(module, graph, kernels, capabilities).items():
        module.set_submodule(path, layer)
    return module


def rounded_layers(
    module: fx.GraphModule, graph: gs.Graph, kernels: Mapping[str, str], capabilities: Capabilities
) -> dict[str, nn.Module]:
    """The products that stand for layers of a twin, by the path of the layer."""
    paths = linear.paths(module)
    calls = {node.name: int(node.inputs[0].shape[0]) for node in graph.nodes if is_plain(node)}
    return {
        paths[node]: _product(module.get_submodule(paths[node]), kernel, calls[node], capabilities)
        for node, kernel in matrices(graph, kernels, capabilities).items()
    }


def column_encoding(matrix: Array, capabilities: Capabilities) -> Encoding:
    """Of a matrix `outputs x inner` with int8 weights and a scale for each output."""
    return covering(matrix, 0, capabilities.weight_bits)


class RoundedLinear(nn.Module):
    """A linear layer that rounds its weight and what it reads; the parameters are shared."""

    def __init__(
        self,
        layer: nn.Linear,
        of_weight: Callable[[Array], Array],
        of_input: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self.of_weight, self.of_input = of_weight, of_input
        self._known: tuple[int, Tensor] | None = None  # version of the weight, and it rounded
        self.train(layer.training)

    def forward(self, x: Tensor) -> Tensor:
        """`x`: `... x inner`."""
        weight = _straight_through(self.weight, self._rounded())
        return F.linear(_straight_through(x, self.of_input(x.detach())), weight, self.bias)

    def _rounded(self) -> Tensor:
        version = self.weight._version
        if self._known is None or self._known[0] != version:
            with torch.inference_mode(False), torch.no_grad():  # it may be trained later
                found = self.of_weight(self.weight.detach().cpu().numpy())
                self._known = version, torch.from_numpy(found).to(self.weight.device)
        return self._known[1]


def _straight_through(value: Tensor, rounded: Tensor) -> Tensor:
    """`rounded`, with the gradient of `value` (Bengio et al. 2013, section 4)."""
    return value + (rounded - value).detach() if torch.is_grad_enabled() else rounded


def round_by_blocks(x: Tensor, block: int) -> Tensor:
    """`... x inner`, each `block` values along the last axis on 255 steps around zero."""
    inner = x.shape[-1]
    filled = F.pad(x, (0, -inner % block))
    parts = filled.reshape(*x.shape[:-1], filled.shape[-1] // block, block)
    scale = parts.abs().amax(-1, keepdim=True).clamp_min(_LEAST) / 127
    rounded = torch.round(parts / scale) * scale
    return rounded.reshape(filled.shape)[..., :inner]


def round_by_call(x: Tensor, rows: int) -> Tensor:
    """`n x ...`, every `rows` along the first axis (those of one call) on 256 steps."""
    calls = x.reshape(-1, rows, *x.shape[1:]) if len(x) % rows == 0 else x[None]
    axes = tuple(range(1, calls.ndim))
    low, high = calls.amin(axes, keepdim=True), calls.amax(axes, keepdim=True)
    low, high = low.clamp_max(0), high.clamp_min(0)
    scale = ((high - low) / 255).clamp_min(_LEAST)
    zero = torch.round(-low / scale).clamp(0, 255)
    steps = (torch.round(calls / scale) + zero).clamp(0, 255)
    return ((steps - zero) * scale).reshape(x.shape)


def _product(layer: nn.Module, kernel: str, rows: int, capabilities: Capabilities) -> RoundedLinear:
    if not isinstance(layer, nn.Linear):
        raise TypeError(f"a plain product is a Linear in the twin, not {type(layer).__name__}")
    kind = blockwise(kernel)
    if kind is None:
        of_weight = partial(_on_columns, capabilities=capabilities)
        return RoundedLinear(layer, of_weight, partial(round_by_call, rows=rows))
    return RoundedLinear(
        layer, partial(_in_blocks, kind=kind), partial(round_by_blocks, block=kind.block)
    )


def _on_columns(matrix: Array, capabilities: Capabilities) -> Array:
    encoding = column_encoding(matrix, capabilities)
    return encoding.dequantize(encoding.quantize(matrix))


def _in_blocks(matrix: Array, kind: Blockwise) -> Array:
    return quantize_blocks(matrix, kind).dequantize()
