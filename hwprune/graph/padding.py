"""Padding in a node of its own, as converters from Keras and TFLite write it."""

import numpy as np
import onnx_graphsurgeon as gs


def merge_padding(graph: gs.Graph) -> None:
    """Lets convolutions pad their input themselves where a Pad puts zeros around it, and MaxPools
    where it puts minus infinity, in place. Padding of the batch or of channels stays.
    """
    for pad in [node for node in graph.nodes if node.op == "Pad"]:
        amounts, fill = _around(pad), _fill(pad)
        readers = list(pad.outputs[0].outputs)
        outside = any(t is pad.outputs[0] for t in graph.outputs)
        if amounts is None or outside:
            continue
        if not all(_pads(r, pad.outputs[0], fill, amounts) for r in readers):
            continue
        for reader in readers:
            own = reader.attrs.get("pads", [0] * len(amounts))
            reader.attrs["pads"] = [int(a) + int(b) for a, b in zip(own, amounts, strict=True)]
            reader.attrs["auto_pad"] = "NOTSET"
            reader.inputs[0] = pad.inputs[0]
        pad.outputs.clear()


def _fill(pad: gs.Node) -> float | None:
    """What it pads with; None if that is computed."""
    value = pad.inputs[2] if len(pad.inputs) > 2 and not pad.inputs[2].is_empty() else None
    if value is None:
        return 0.0
    return float(value.values.item()) if isinstance(value, gs.Constant) else None


def _around(pad: gs.Node) -> list[int] | None:
    """How much it puts in front of and behind each spatial axis, as a Conv lists it; else None."""
    rest = [t for t in pad.inputs[1:] if not t.is_empty()]
    if pad.attrs.get("mode", "constant") != "constant" or not rest:
        return None
    if not all(isinstance(t, gs.Constant) for t in rest):
        return None
    rank = len(pad.inputs[0].shape)
    given = pad.inputs[3].values if len(pad.inputs) > 3 and not pad.inputs[3].is_empty() else None
    axes = range(rank) if given is None else [int(a) % rank for a in np.ravel(given)]
    amounts = np.zeros((2, rank), np.int64)
    amounts[:, list(axes)] = np.ravel(pad.inputs[1].values).reshape(2, -1)
    spatial = rank > 2 and not amounts[:, :2].any() and (amounts >= 0).all()
    return [int(a) for a in amounts[:, 2:].ravel()] if spatial else None


def _pads(node: gs.Node, tensor: gs.Tensor, fill: float | None, amounts: list[int]) -> bool:
    """Whether the node works on `tensor` and can itself put `fill` around it."""
    if node.attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return False
    if node.op == "Conv":
        return fill == 0 and all(t is not tensor for t in node.inputs[1:])
    if node.op != "MaxPool" or fill != -np.inf or node.attrs.get("ceil_mode", 0):
        return False
    own, sizes = node.attrs.get("pads", [0] * len(amounts)), node.attrs["kernel_shape"]
    pads = [int(a) + int(b) for a, b in zip(own, amounts, strict=True)]
    return all(pad < size for pad, size in zip(pads, [*sizes, *sizes], strict=True))
