"""Oracle: the node tests that the onnx package ships, one operator at a time."""

import warnings
from collections import Counter

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
import torch
from onnx.backend.test.case.node import collect_testcases

from hwprune.errors import HwpruneError, UnsupportedModelError
from hwprune.graph.read import canonical
from hwprune.network.operators import supported_ops, translate
from hwprune.network.twin import to_module

KINDS = {np.dtype(kind) for kind in ("float32", "int32", "int64", "bool")}


def test_operators_against_onnx_node_tests():
    outcome: Counter[str] = Counter()
    wrong = []
    for case in _cases():
        verdict = _judge(case)
        outcome[verdict.split(":")[0]] += 1
        if verdict.startswith("wrong"):
            wrong.append(f"{case.name} {verdict}")
    print(dict(outcome))
    assert not wrong, "\n".join(wrong)
    assert outcome["equal"] >= 340


def test_unknown_operator_is_named():
    with pytest.raises(UnsupportedModelError, match=r"'count' \(NonZero\)"):
        translate(gs.Node(op="NonZero", name="count"))


def _cases():
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        cases = collect_testcases("")
    for case in cases:
        nodes = case.model.graph.node if case.model else []
        kinds = {getattr(v, "dtype", None) for v in case.data_sets[0][0]} if nodes else set()
        if len(nodes) == 1 and nodes[0].op_type in supported_ops() and kinds <= KINDS:
            yield case


def _judge(case):
    inputs, expected = case.data_sets[0]
    try:
        model, feeds = _with_initializers(case.model, inputs)
        twin = to_module(canonical(model))
    except (HwpruneError, TypeError) as e:
        return f"unsupported: {e}"
    try:
        with torch.inference_mode():
            result = twin(*feeds)
    except Exception as e:
        return f"wrong: {e}"
    results = result if isinstance(result, tuple) else (result,)
    for got, want in zip(results, expected, strict=True):
        got = got.numpy()
        close = np.allclose(got, want, rtol=1e-4, atol=1e-4, equal_nan=True)
        if got.shape != want.shape or not close:
            return f"wrong: {got.shape} {want.shape}"
    return "equal"


def _with_initializers(model, inputs):
    """All inputs but the first tensor become weights, as in a trained network."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    values = [v if isinstance(v, np.ndarray) else np.asarray(v) for v in inputs]
    keep = 2 if model.graph.node[0].op_type in ("Add", "Mul", "Sub", "Div", "MatMul", "Max") else 1
    for value, array in list(zip(model.graph.input, values, strict=True))[keep:]:
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, value.name))
    del model.graph.input[keep:]
    return model, [torch.from_numpy(v.copy()) for v in values[:keep]]
