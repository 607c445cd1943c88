"""The blocked layout that onnxruntime computes fp32 convolutions in: its blocks on this machine."""

from functools import cache

from hwprune.backends.cpu import describe
from onnx import TensorProto, helper

DOMAIN = "com.microsoft.nchwc"
LEAST = 4  # channels: the reordering takes multiples of them only


@cache
def block_size() -> int:
    """Channels per block on this machine; 1: the runtime blocks nothing."""
    return describe.block_size(reordering())


def reordering() -> bytes:
    """A model that pads its channels to a whole block: the runtime is asked, not assumed."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("ReorderInput", ["x"], ["y"], domain=DOMAIN)],
        "block",
        [value("x", TensorProto.FLOAT, [1, LEAST, 1, 1])],
        [value("y", TensorProto.FLOAT, None)],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return bytes(model.SerializeToString())
