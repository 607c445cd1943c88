"""Pruning as a plain library call: structure only, nothing is measured, searched or quantised."""

from collections.abc import Mapping
from pathlib import Path
from typing import overload

import onnx
import onnx_graphsurgeon as gs
import torch
from torch import Tensor, fx, nn

from hwprune.errors import UsageError
from hwprune.frontend.module import graph_from_module
from hwprune.graph.channels import ChannelGroup, Coupling
from hwprune.graph.coupling import couple
from hwprune.graph.quarantine import read_untrusted
from hwprune.graph.read import canonical, to_proto
from hwprune.graph.slim import slim
from hwprune.network.run import check_batches
from hwprune.network.twin import to_module
from hwprune.pruning.criteria import rank_channels
from hwprune.pruning.reconstruct import FINAL, Reference
from hwprune.registry import unknown

Network = nn.Module | onnx.ModelProto | str | Path
Width = int | float  # channels that stay, or the share of them (a float)
Shapes = Mapping[str, tuple[int, ...]]


@overload
def prune(
    network: nn.Module,
    widths: Width | Mapping[str, Width],
    *,
    example: Tensor | tuple[Tensor, ...],
    calibration: Tensor | tuple[Tensor, ...] | None = None,
    criterion: str | None = None,
    seed: int = 0,
) -> fx.GraphModule: ...


@overload
def prune(
    network: onnx.ModelProto | str | Path,
    widths: Width | Mapping[str, Width],
    *,
    shapes: Shapes | None = None,
    calibration: Tensor | tuple[Tensor, ...] | None = None,
    criterion: str | None = None,
    seed: int = 0,
) -> onnx.ModelProto: ...


def prune(
    network: Network,
    widths: Width | Mapping[str, Width],
    *,
    example: Tensor | tuple[Tensor, ...] | None = None,
    shapes: Shapes | None = None,
    calibration: Tensor | tuple[Tensor, ...] | None = None,
    criterion: str | None = None,
    seed: int = 0,
) -> fx.GraphModule | onnx.ModelProto:
    """Cuts groups of coupled channels out of a network, exactly.

        slim = prune(module, 0.5, example=torch.zeros(1, 3, 224, 224), calibration=images)
        slim = prune("model.onnx", {"layer1.conv1": 24, "layer2.conv1": 0.75})

    Args:
        network: An `nn.Module`, an ONNX model or the path of one; left unchanged.
        widths: Channels that stay, by group as `hwprune.inspect` names them; a float is the share
            of them. One value stands for every group that can be pruned.
        example: The module's input, with its shape; a tuple where there are several.
        shapes: Input shapes by name, where the ONNX model leaves them open.
        calibration: `N x ...` inputs without labels; a tuple where the network has several. With
            them the channels that can be spared are found and the layers behind refitted by least
            squares; without, the weights of the smallest norm go and nothing is refitted.
        criterion: Which channels go; see `hwprune methods`. "obs" with calibration inputs, else
            "magnitude".
        seed: Of what is sampled.

    Returns:
        What was given: a slim torch module in evaluation mode, or a slim ONNX model.

    Raises:
        UsageError: An unknown or frozen group, an impossible width, no example for a module, or
            more or fewer calibration inputs than the network has.
        ModelError: The network cannot be read or exported.
    """
    graph = _graph_of(network, example, shapes)
    given = 1 if isinstance(calibration, Tensor) else len(calibration or graph.inputs)
    if given != len(graph.inputs):
        raise UsageError(
            f"the network has {len(graph.inputs)} inputs, calibration {given}",
            "give a tuple with one tensor for each, samples first",
        )
    if calibration is not None:
        check_batches(to_module(graph), calibration, int(graph.inputs[0].shape[0]))
    coupling = couple(graph)
    wanted = _wanted(coupling, widths)
    x = torch.zeros(0) if calibration is None else calibration
    name = criterion or ("magnitude" if calibration is None else "obs")
    rankings = rank_channels(graph, coupling, x, name, seed)
    keep = {g: rankings[g].kept(width) for g, width in wanted.items()}
    slimmed = slim(graph, coupling, keep)
    if calibration is not None:
        Reference(graph, coupling, calibration, seed, FINAL).reconstruct(slimmed, keep)
    return to_module(slimmed) if isinstance(network, nn.Module) else to_proto(slimmed)


def _graph_of(
    network: Network, example: Tensor | tuple[Tensor, ...] | None, shapes: Shapes | None
) -> gs.Graph:
    if isinstance(network, nn.Module):
        if example is None:
            raise UsageError(
                "a module does not know the shape of its input", "give one as `example`"
            )
        return graph_from_module(network, example if isinstance(example, tuple) else (example,))
    if isinstance(network, onnx.ModelProto):
        return canonical(network, shapes)
    return read_untrusted(Path(network), shapes)


def _wanted(coupling: Coupling, widths: Width | Mapping[str, Width]) -> dict[str, int]:
    """Channels that stay, for the groups that get narrower."""
    if not isinstance(widths, Mapping):
        widths = {g.name: widths for g in coupling.prunable}
    groups = {g.name: g for g in coupling.groups}
    if missing := [name for name in widths if name not in groups]:
        raise unknown("channel group", missing[0], groups)
    found = {name: _count(groups[name], width) for name, width in widths.items()}
    return {name: count for name, count in found.items() if count < groups[name].width}


def _count(group: ChannelGroup, width: Width) -> int:
    if isinstance(width, float):
        if not 0 < width <= 1:
            raise UsageError(f"group {group.name!r}: a share of {width:g}", "shares lie in (0, 1]")
        width = max(1, round(width * group.width))
    if not 1 <= width <= group.width:
        raise UsageError(
            f"group {group.name!r} has {group.width} channels, {width} cannot stay",
            "give 1 or more, or a share as a float",
        )
    if group.frozen and width < group.width:
        raise UsageError(f"group {group.name!r} cannot be pruned: {group.frozen}")
    return width
