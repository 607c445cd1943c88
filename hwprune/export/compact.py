"""Any model's weights in as few bytes as ONNX itself can hold them: no decoder, nothing lost.

A tensor of few values is stored as words of their indices (`hwprune.export.storage`), one that is
mostly zero as the gaps between what is not, and that. Runtimes fold both when they load the file.
"""

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from hwprune.errors import UnsupportedModelError
from hwprune.export.storage import Storage

_LEAST = 256  # elements
_OPSET = 13  # of the operators that decode
_KINDS = ("float32", "float16", "int8", "uint8")


def compact(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network, its weights stored in the fewest bytes.

    Raises:
        UnsupportedModelError: The model is older than the operators that decode.
    """
    opset = next((o.version for o in model.opset_import if o.domain in {"", "ai.onnx"}), 0)
    if opset < _OPSET:
        raise UnsupportedModelError(
            f"the model uses opset {opset}, and weights in few bytes need {_OPSET}",
            "export it with a newer opset, or write a .hwp file instead",
        )
    graph = gs.import_onnx(model)
    storage = Storage(graph)
    for tensor in list(graph.tensors().values()):
        if isinstance(tensor, gs.Constant) and _may_be_stored(tensor):
            _store(tensor, storage)
    graph.cleanup(remove_unused_graph_inputs=False).toposort()
    found: onnx.ModelProto = gs.export_onnx(graph)
    return found


def _may_be_stored(tensor: gs.Constant) -> bool:
    values = tensor.values
    usable = values.dtype.name in _KINDS and values.size >= _LEAST and bool(tensor.outputs)
    return usable and bool(np.isfinite(values.astype(np.float32)).all())


def _store(tensor: gs.Constant, storage: Storage) -> None:
    """Lets those who read it read what a decoder makes instead, where that takes fewer bytes."""
    values = np.asarray(tensor.values)
    levels = np.unique(values)
    found = storage.add_sparse(tensor.name, values, levels)
    if found is None:
        found = storage.add(tensor.name, values, levels)
    if isinstance(found, gs.Constant):
        return
    for node in list(tensor.outputs):
        node.inputs = [found if given is tensor else given for given in node.inputs]
