"""Bringing a model to one opset and computing once what does not depend on its inputs."""

import math
from contextlib import suppress

import onnx
import onnx_graphsurgeon as gs
import onnx_ir as ir
from onnx import version_converter
from onnx.inliner import inline_selected_functions
from onnx_ir.passes import common as passes
from onnxscript import optimizer

from hwprune.errors import UnsupportedModelError
from hwprune.graph.proto import control_flow, subgraphs
from hwprune.graph.shapes import infer
from hwprune.graph.tidy import name_nodes

OLDEST, NEWEST = 17, 26  # newer ones are read before any released runtime runs them
_FOLDS_QUANTIZED = 19  # onnx's own evaluator knows DequantizeLinear from here on
_OLDEST_IR = 10
_MAX_FOLDED = 1 << 24  # elements
_MAX_SPREAD = 1 << 16  # elements, of what repeats a smaller constant
_SPREADING = {"ConstantOfShape", "Expand", "Tile"}
_QUANTIZED = frozenset(
    {"ConvInteger", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv"}
    | {"QLinearMatMul", "QuantizeLinear"}
)
INLINED = (  # functions of the standard: what they consist of can be pruned; SwiGLU has a Swish
    *("Attention", "CastLike", "CenterCropPad", "GroupNormalization"),
    *("RotaryEmbedding", "SwiGLU", "Swish"),
)
_ROUNDS = 4  # each makes shapes static that the next can fold through; nets need one or two


def converted(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model at opset 17 to 26, in the file format of that time.

    Where something is too new to be said in opset 26, the model stays as it is: it can be pruned,
    and a runtime may know it. Raises UnsupportedModelError for an old one that onnx cannot convert.
    """
    version = _version(model)
    quantized = any(node.op_type in _QUANTIZED for node in model.graph.node)
    wanted = min(max(version, _FOLDS_QUANTIZED if quantized else OLDEST), NEWEST)
    try:
        if version != wanted:
            model = version_converter.convert_version(model, wanted)
    except (RuntimeError, version_converter.ConvertError) as error:
        if version > NEWEST:
            return model
        raise UnsupportedModelError(
            f"opset {version} cannot be converted to {wanted}: {str(error).splitlines()[0]}",
            f"export the model with opset {OLDEST} or newer",
        ) from error
    model.ir_version = min(model.ir_version, _ir_version(model))
    return model


def _version(model: onnx.ModelProto) -> int:
    return next(int(e.version) for e in model.opset_import if e.domain in ("", "ai.onnx"))


def _ir_version(model: onnx.ModelProto) -> int:
    """The file format that the opset came with: runtimes lag behind the newest one."""
    return max(_OLDEST_IR, onnx.helper.find_min_ir_version_for(model.opset_import, True))


def fold_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """Inlines local functions, folds constant sub-graphs and lifts constants to initializers."""
    for _ in range(_ROUNDS):
        before = len(model.graph.node)
        graph = ir.serde.deserialize_model(infer(model))
        passes.InlinePass()(graph)
        optimizer.fold_constants(graph, onnx_shape_inference=True, should_fold=_should_fold)
        passes.RemoveUnusedNodesPass()(graph)
        passes.RemoveUnusedFunctionsPass()(graph)  # type: ignore[no-untyped-call]
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(graph)
        passes.IdentityEliminationPass()(graph)
        passes.TopologicalSortPass()(graph)
        model = ir.serde.serialize_model(graph)
        if len(model.graph.node) == before:
            break
    name_nodes(model)  # the passes leave outputs that nobody reads without a name
    return infer(model)


def decided(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the branches that its static shapes choose.

    Raises UnsupportedModelError for control flow that depends on the data.
    """
    if any(subgraphs(node) for node in model.graph.node):
        model = fold_constants(model)
    for node in model.graph.node:
        if subgraphs(node):
            raise control_flow(node)
    return model


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without the standard's functions, as far as onnx can inline them.

    Its inliner has to be told the types of initializers and the attributes' defaults, and gives up
    at optional inputs that are left out between others; such a function stays as it is.
    """
    model.graph.value_info.extend(
        onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims)
        for t in model.graph.initializer
    )
    for name in INLINED:
        nodes = [node for node in model.graph.node if node.op_type == name]
        for node in nodes:
            node.attribute.extend(_defaults(node, _version(model)))
        with suppress(Exception):  # an assertion of C++, as whatever it is handed on
            if nodes:
                model = inline_selected_functions(model, [("", name)], inline_schema_functions=True)
    return model


def _defaults(node: onnx.NodeProto, version: int) -> list[onnx.AttributeProto]:
    given = {attribute.name for attribute in node.attribute}
    known = onnx.defs.get_schema(node.op_type, version).attributes
    defaults = [a.default_value for name, a in known.items() if name not in given]
    return [d for d in defaults if d.type != onnx.AttributeProto.UNDEFINED]


def _should_fold(node: ir.Node) -> bool:
    """Everything that stays small; the size must be known beforehand, or it may be a bomb."""
    shapes = [out.shape for out in node.outputs]
    return all(
        s is not None and s.is_static() and math.prod(s.numpy()) <= _MAX_FOLDED for s in shapes
    )


def fold_rest(graph: gs.Graph) -> None:
    """What onnxscript leaves, by onnxruntime: nodes whose evaluator has several outputs, in place.

    Constants that would only be spread out stay small, and random numbers random.
    """
    for _ in range(_ROUNDS):
        before = len(graph.nodes)
        if not any(_is_constant(node) and not _stays(node) for node in graph.nodes):
            return
        graph.fold_constants(fold_shapes=False, partitioning="basic", should_exclude_node=_stays)
        graph.cleanup().toposort()
        if len(graph.nodes) == before:
            return


def _is_constant(node: gs.Node) -> bool:
    given = [tensor for tensor in node.inputs if not tensor.is_empty()]
    return bool(given) and all(isinstance(tensor, gs.Constant) for tensor in given)


def _stays(node: gs.Node) -> bool:
    sizes = [math.prod(out.shape) for out in node.outputs if out.shape is not None]
    limit = _MAX_SPREAD if node.op in _SPREADING else _MAX_FOLDED
    return node.op.startswith("Random") or max(sizes, default=limit + 1) > limit


def check_float(model: onnx.ModelProto) -> None:
    """Refuses activations that are quantised (weights were dequantised by folding).

    Raises UnsupportedModelError: their rounding would have to be undone to prune and to quantise
    anew.
    """
    found = [node for node in model.graph.node if node.op_type in _QUANTIZED]
    if found:
        raise UnsupportedModelError(
            f"the network is quantised already: {len(found)} nodes such as {found[0].name!r} "
            f"({found[0].op_type})",
            "give the fp32 network that it was made from; hwprune quantises it itself",
        )
