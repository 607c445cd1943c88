"""The blocked layout that onnxruntime computes fp32 convolutions in: its blocks on this machine."""

from functools import cache

import numpy as np
from onnx import TensorProto, helper

DOMAIN = "com.microsoft.nchwc"
LEAST = 4  # channels: the reordering takes multiples of them only


@cache
def block_size() -> int:
    """Channels per block: 16 with AVX-512, 8 with AVX2, 1 where the runtime blocks nothing.

    Asked of the runtime itself: one reordering pads its channels to a whole block.
    """
    import onnxruntime as ort

    shape = [1, LEAST, 1, 1]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("ReorderInput", ["x"], ["y"], domain=DOMAIN)],
        "block",
        [value("x", TensorProto.FLOAT, shape)],
        [value("y", TensorProto.FLOAT, None)],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    providers = ["CPUExecutionProvider"]
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=providers)
        (blocked,) = session.run(None, {"x": np.zeros(shape, np.float32)})
    except Exception:  # the runtime's own types; whatever it says, it has no such kernel
        return 1
    return 1 if blocked.shape[1] == LEAST else int(blocked.shape[1])
