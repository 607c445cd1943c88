"""Folding batch normalisation into the layer in front of it (Jacob et al. 2018, section 3.2)."""

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from hwprune.errors import ModelError
from hwprune.graph.cost import output_axis

_FOLDABLE = ("Conv", "ConvTranspose", "Gemm")


def fold_batchnorm(graph: gs.Graph) -> None:
    """Folds every BatchNormalization behind a Conv, ConvTranspose or Gemm into it, in place."""
    outputs = {id(tensor) for tensor in graph.outputs}
    for norm in [node for node in graph.nodes if node.op == "BatchNormalization"]:
        if _is_foldable(norm, outputs):
            _fold(norm.inputs[0].inputs[0], norm)
    graph.cleanup()


def _is_foldable(norm: gs.Node, outputs: set[int]) -> bool:
    source = norm.inputs[0]
    if len(source.inputs) != 1 or len(source.outputs) != 1 or id(source) in outputs:
        return False
    layer = source.inputs[0]
    constants = (*layer.inputs[1:], *norm.inputs[1:])
    return (
        layer.op in _FOLDABLE
        and not norm.attrs.get("training_mode", 0)
        and all(isinstance(t, gs.Constant) or t.is_empty() for t in constants)
    )


def _fold(layer: gs.Node, norm: gs.Node) -> None:
    """With y = W x + b behind (y - mean) * s + beta: W' = s W, b' = s (b - mean) + beta.

    Left as it is where the products leave the range of their type (as they may in fp16).
    """
    gamma, beta, mean, var = (t.values.astype(np.float64) for t in norm.inputs[1:5])
    var = var + norm.attrs.get("epsilon", 1e-5)
    if np.any(var <= 0):
        raise ModelError(f"BatchNormalization {norm.name!r} has a variance that is not positive")
    scale = gamma / np.sqrt(var)
    weight = layer.inputs[1]
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = _scaled(layer, weight.values, scale)
        bias = ((_bias(layer, len(scale)) - mean) * scale + beta).astype(weight.values.dtype)
    if not (np.isfinite(scaled).all() and np.isfinite(bias).all()):
        return
    layer.inputs[1] = _renamed(layer, weight, "weight", scaled)
    constant = _renamed(layer, _given_bias(layer), "bias", bias)
    layer.inputs = [*layer.inputs[:2], constant]
    if layer.op == "Gemm":
        layer.attrs["beta"] = 1.0
    out = norm.outputs[0]
    norm.outputs.clear()
    layer.outputs = [out]


def _scaled(
    layer: gs.Node, weight: NDArray[np.float32], scale: NDArray[np.float64]
) -> NDArray[np.float32]:
    if layer.op == "ConvTranspose":
        groups = layer.attrs.get("group", 1)
        blocks = weight.reshape(groups, -1, *weight.shape[1:])
        shape = (groups, 1, weight.shape[1]) + (1,) * (weight.ndim - 2)
        return (blocks * scale.reshape(shape)).reshape(weight.shape).astype(weight.dtype)
    view = [1] * weight.ndim
    view[output_axis(layer)] = -1
    return (weight * scale.reshape(view)).astype(weight.dtype)


def _given_bias(layer: gs.Node) -> gs.Constant | None:
    given = layer.inputs[2] if len(layer.inputs) > 2 else None
    return given if isinstance(given, gs.Constant) else None


def _bias(layer: gs.Node, width: int) -> NDArray[np.float64]:
    given = _given_bias(layer)
    if given is None:
        return np.zeros(width)
    beta = float(layer.attrs.get("beta", 1.0)) if layer.op == "Gemm" else 1.0
    return np.broadcast_to(beta * given.values.astype(np.float64).reshape(-1), (width,))


def _renamed(
    layer: gs.Node, old: gs.Constant | None, role: str, values: NDArray[np.float32]
) -> gs.Constant:
    """Keeps the initializer's name unless another node reads the unfolded values too."""
    shared = old is None or len(old.outputs) > 1
    name = f"{layer.name}.{role}" if shared or old is None else old.name
    return gs.Constant(name, values)
