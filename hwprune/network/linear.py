"""Convolutions and linear layers as what they are: one matrix product over sampled positions."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

Layer = nn.Conv1d | nn.Conv2d | nn.Linear


def layers(twin: nn.Module) -> dict[str, Layer]:
    """The layers of a twin that are one matrix product per group, by ONNX node."""
    modules = {name: twin.get_submodule(path) for name, path in paths(twin).items()}
    return {name: m for name, m in modules.items() if isinstance(m, Layer)}


def paths(twin: nn.Module) -> dict[str, str]:
    """Where the modules of a twin are, by ONNX node."""
    graph = cast("fx.GraphModule", twin).graph
    return {n.meta["node"]: str(n.target) for n in graph.nodes if n.op == "call_module"}


def groups(layer: Layer) -> int:
    """Number of independent products: 1, or the groups of a convolution."""
    return 1 if isinstance(layer, nn.Linear) else layer.groups


def columns(layer: Layer) -> int:
    """Unknowns per output channel, without the bias."""
    return layer.weight[0].numel()


def channel_axis(layer: Layer) -> int:
    """Axis of the channels in the layer's input and output."""
    return -1 if isinstance(layer, nn.Linear) else 1


def weight_matrix(layer: Layer) -> Tensor:
    """The weight as groups x outputs per group x columns; columns run channel by channel."""
    return layer.weight.detach().reshape(groups(layer), -1, columns(layer))


def output_rows(layer: Layer, output: Tensor, index: Tensor) -> Tensor:
    """Rows x channels of a tensor shaped like the layer's output, at flat positions `index`."""
    return output.movedim(channel_axis(layer), -1).flatten(0, -2)[index]


def input_rows(layer: Layer, x: Tensor, index: Tensor) -> Tensor:
    """What the layer multiplies its weight with: groups x rows x columns."""
    if isinstance(layer, nn.Linear):
        return x.flatten(0, -2)[index].unsqueeze(0)
    rows = _patches(layer, x, index).reshape(len(index), groups(layer), -1)
    return rows.movedim(1, 0)


def positions(layer: Layer, output: Tensor) -> int:
    """Number of flat positions in a tensor shaped like the layer's output."""
    return output.numel() // output.shape[channel_axis(layer)]


def output_sizes(layer: Layer, x: Tensor) -> tuple[int, ...]:
    """Of what the layer makes of `x`, all axes but that of the channels."""
    if isinstance(layer, nn.Linear):
        return tuple(x.shape[:-1])
    padding = cast("tuple[int, ...]", layer.padding)
    axes = zip(x.shape[2:], layer.kernel_size, layer.stride, padding, layer.dilation, strict=True)
    return (len(x), *((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in axes))


def _patches(conv: nn.Conv1d | nn.Conv2d, x: Tensor, index: Tensor) -> Tensor:
    """Rows x channels x kernel positions: the receptive fields of some output positions."""
    kernel, stride, pad, dilation = map(
        _two, (conv.kernel_size, conv.stride, conv.padding, conv.dilation), (1, 1, 0, 1)
    )
    samples, *sizes = output_sizes(conv, x)
    x = x.unsqueeze(2) if isinstance(conv, nn.Conv1d) else x
    x = F.pad(x, (pad[1], pad[1], pad[0], pad[0])).movedim(1, -1)
    sample, row, column = torch.unravel_index(index, (samples, *[1] * (2 - len(sizes)), *sizes))
    rows = row[:, None] * stride[0] + torch.arange(kernel[0], device=x.device) * dilation[0]
    cols = column[:, None] * stride[1] + torch.arange(kernel[1], device=x.device) * dilation[1]
    found = x[sample[:, None, None], rows[:, :, None], cols[:, None, :]]
    return found.flatten(1, 2).movedim(-1, 1)


def _two(values: object, absent: int) -> tuple[int, int]:
    pair = tuple(values) if isinstance(values, tuple) else ()
    return (absent, pair[0]) if len(pair) == 1 else (pair[0], pair[1])
