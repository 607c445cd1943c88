"""The node tests that ship inside the `onnx` package, put to the trainable twin.

A test is in scope if all its operators are in the twin's table and all its inputs and outputs are
of the types that networks of fp32 have. Inputs other than the first may become initializers, as
weights, shapes and axes are in real networks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from onnx.backend.test.case.node import collect_testcases

from hwprune.errors import HwpruneError
from hwprune.graph.fold import INLINED
from hwprune.graph.read import canonical
from hwprune.graph.safety import MIN_OPSET
from hwprune.network.operators import supported_ops
from hwprune.network.twin import to_module

_TYPES = {TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL}
_RTOL, _ATOL = 1e-3, 1e-5  # the suite's own relative tolerance

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One node test: `refused` says why it is not supported, `wrong` how the answer differs."""

    name: str
    ops: frozenset[str]
    refused: str = ""
    wrong: str = ""

    @property
    def passed(self) -> bool:
        """Whether the twin answered as the test wants it."""
        return not self.refused and not self.wrong


@cache
def node_tests() -> tuple[Any, ...]:
    """All node tests of the installed `onnx`, in and out of scope."""
    return tuple(collect_testcases(None))


def in_scope(op: str | None = None) -> Iterator[Any]:
    """The tests that the twin can be asked; with `op`, those whose nodes include it."""
    for case in node_tests():
        ops = operators(case.model)
        types = {
            v.type.tensor_type.elem_type
            for v in (*case.model.graph.input, *case.model.graph.output)
        }
        known = ops <= supported_ops().union(INLINED) | {"Constant"} and types <= _TYPES
        if known and (op is None or op in ops):
            yield case


def operators(model: onnx.ModelProto) -> frozenset[str]:
    """The operators of the model's nodes."""
    return frozenset(node.op_type for node in model.graph.node)


def ask(case: Any) -> Outcome:
    """Puts one test to the twin: as it is, else with all inputs but the first as initializers."""
    ops, (inputs, outputs) = operators(case.model), map(list, case.data_sets[0])
    refused = ""
    for fixed in (False, True):
        try:
            answers = _answers(case.model, inputs, fixed)
        except HwpruneError as error:
            refused = str(error)
            continue
        return Outcome(case.name, ops, wrong=_difference(answers, outputs))
    return Outcome(case.name, ops, refused=refused)


def _answers(model: onnx.ModelProto, inputs: list[Array], fixed: bool) -> list[Array]:
    bound = _at_readable_opset(model)
    feeds = inputs[:1] if fixed else inputs
    if fixed:
        names = [value.name for value in model.graph.input]
        del bound.graph.input[1:]
        pairs = list(zip(names, inputs, strict=True))[1:]
        bound.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in pairs)
    twin = to_module(canonical(bound), runtime=False)
    with torch.no_grad():
        found = twin(*(torch.from_numpy(np.array(feed)) for feed in feeds))
    return [t.numpy() for t in (found if isinstance(found, tuple) else (found,))]


def _at_readable_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy; where no operator has changed since, an opset that is too old is called the oldest
    that is read (the suite keeps the tests of And, Not, Or and Xor at opsets 1 and 7).
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for entry in copy.opset_import:
        if entry.domain == "" and entry.version < MIN_OPSET:
            now = [onnx.defs.get_schema(op, MIN_OPSET).since_version for op in operators(model)]
            entry.version = MIN_OPSET if max(now) <= entry.version else entry.version
    return copy


def _difference(answers: list[Array], wanted: list[Array]) -> str:
    for i, (answer, want) in enumerate(zip(answers, wanted, strict=False)):
        if answer.shape != np.shape(want):
            return f"output {i} has the shape {answer.shape}, not {np.shape(want)}"
        if not np.allclose(answer, want, _RTOL, _ATOL, equal_nan=True):
            return f"output {i} differs by up to {np.abs(answer - want).max():.3g}"
    return ""
