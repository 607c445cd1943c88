"""Einsum of two tensors as Transpose, Reshape and MatMul, through which channels can be followed.

Letters in both operands and in the result are batch axes, letters in both alone are summed over,
the others are rows of the one operand and columns of the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

Letters = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Product:
    """One way to compute it: `left` (own, batch, rows, summed) x `right` (batch, summed, columns).

    `own` are axes of the left operand that MatMul repeats the right one for. `swapped` tells that
    the second operand stands on the left.
    """

    own: Letters
    batch: Letters
    rows: Letters
    summed: Letters
    columns: Letters
    swapped: bool

    @property
    def left(self) -> Letters:
        """The order of the left operand's axes."""
        return self.own + self.batch + self.rows + self.summed

    @property
    def right(self) -> Letters:
        """The order of the right operand's axes."""
        return self.batch + self.summed + self.columns

    @property
    def result(self) -> Letters:
        """The order of the axes that comes out."""
        return self.own + self.batch + self.rows + self.columns


def replace_einsums(graph: gs.Graph) -> None:
    """Replaces every Einsum that is a matrix product of two tensors, in place."""
    for node in [n for n in graph.nodes if n.op == "Einsum" and len(n.inputs) == 2]:
        shapes = [tuple(t.shape or ()) for t in node.inputs]
        parsed = parse(str(node.attrs["equation"]), [len(s) for s in shapes])
        if parsed is not None and (sizes := _sizes(parsed[:2], shapes)) is not None:
            moving = [not isinstance(t, gs.Constant) for t in node.inputs]
            if (product := plan(*parsed, moving)) is not None:
                _replace(graph, node, parsed, product, sizes)


def parse(equation: str, ranks: Sequence[int]) -> tuple[Letters, Letters, Letters] | None:
    """The letters of two operands and of the result; an ellipsis becomes letters of its own.

    None where the equation is another one than these ranks allow.
    """
    given, arrow, out = equation.replace(" ", "").partition("->")
    terms = given.split(",")
    if len(terms) != 2:
        return None
    dots = [rank - len(term.replace("...", "")) if "..." in term else 0
            for term, rank in zip(terms, ranks, strict=True)]  # fmt: skip
    if min(dots) < 0 or (0 < min(dots) != max(dots)):
        return None
    filler = [f"...{i}" for i in range(max(dots))]
    first, second = (_letters(t, filler) for t in terms)
    if (len(first), len(second)) != tuple(ranks):
        return None
    if not arrow:
        once = sorted(x for x in {*first, *second} if (first + second).count(x) == 1)
        return first, second, (*filler, *(x for x in once if x not in filler))
    return first, second, _letters(out, filler)


def plan(first: Letters, second: Letters, out: Letters, moving: Sequence[bool]) -> Product | None:
    """The way with the fewest transpositions of tensors that are not constant.

    None where this is no matrix product: nothing is summed over, a letter stands twice in one
    operand, or one that only one operand has is missing in the result.
    """
    shared = [x for x in first if x in second]
    summed = tuple(x for x in shared if x not in out)
    repeated = any(len(set(letters)) < len(letters) for letters in (first, second, out))
    if repeated or not summed or set(out) != {*first, *second} - set(summed):
        return None
    batch = tuple(x for x in out if x in shared)
    ways = []
    for swapped, (a, b) in ((False, (first, second)), (True, (second, first))):
        only = [x for x in out if x in a and x not in b]
        end = min(map(out.index, batch or only[-1:]), default=0)
        own = tuple(x for x in only if out.index(x) < end)
        rows = tuple(only[len(own) :])
        columns = tuple(x for x in out if x in b and x not in a)
        way = Product(own, batch, rows, summed, columns, swapped)
        a_moves, b_moves = moving[::-1] if swapped else moving
        cost = (a_moves and way.left != a) + (b_moves and way.right != b) + (way.result != out)
        ways.append((cost, swapped, way))
    return min(ways, key=lambda w: w[:2])[2]


def _letters(term: str, filler: list[str]) -> Letters:
    head, dots, tail = term.partition("...")
    return (*head, *(filler if dots else ()), *tail)


def _sizes(operands: Sequence[Letters], shapes: Sequence[tuple[int, ...]]) -> dict[str, int] | None:
    """The length of every letter's axis; None where one is stretched from 1."""
    sizes: dict[str, int] = {}
    for letters, shape in zip(operands, shapes, strict=True):
        for letter, size in zip(letters, shape, strict=True):
            if sizes.setdefault(letter, int(size)) != size:
                return None
    return sizes


def _replace(
    graph: gs.Graph,
    node: gs.Node,
    letters: tuple[Letters, Letters, Letters],
    way: Product,
    sizes: dict[str, int],
) -> None:
    operands, out = list(zip(node.inputs, letters, strict=False)), node.outputs[0]
    (a, of_a), (b, of_b) = operands[::-1] if way.swapped else operands
    node.inputs.clear()
    node.outputs.clear()
    write = _Writer(graph, node.name, out.dtype)
    own, batch = ([sizes[x] for x in part] for part in (way.own, way.batch))
    rows, summed, columns = (
        prod(sizes[x] for x in part) for part in (way.rows, way.summed, way.columns)
    )
    left = write.ordered(a, of_a, way.left, "left")
    left = write.shaped(left, [*own, *batch, rows, summed], "left")
    right = write.ordered(b, of_b, way.right, "right")
    right = write.shaped(right, [*batch, summed, columns], "right")
    product = write.node("MatMul", node.name, [left, right], [*own, *batch, rows, columns])
    last = write.shaped(product, [sizes[x] for x in way.result], "out")
    last = write.ordered(last, way.result, letters[2], "out")
    last.inputs[0].outputs = [out]


@dataclass(frozen=True, slots=True)
class _Writer:
    """Adds nodes named after the Einsum they stand for; constants are changed at once."""

    graph: gs.Graph
    name: str
    dtype: Any

    def node(
        self, op: str, name: str, inputs: list[gs.Tensor], shape: list[int], **attrs: object
    ) -> gs.Tensor:
        out = gs.Variable(f"{name}.out", self.dtype, shape)
        self.graph.nodes.append(gs.Node(op, name, attrs, inputs, [out]))
        return out

    def ordered(self, x: gs.Tensor, have: Letters, want: Letters, role: str) -> gs.Tensor:
        perm = [have.index(letter) for letter in want]
        if perm == sorted(perm):
            return x
        name = f"{self.name}.{role}.order"
        if isinstance(x, gs.Constant):
            return gs.Constant(name, np.ascontiguousarray(x.values.transpose(perm)))
        return self.node("Transpose", name, [x], [x.shape[i] for i in perm], perm=perm)

    def shaped(self, x: gs.Tensor, shape: list[int], role: str) -> gs.Tensor:
        if list(x.shape) == shape:
            return x
        name = f"{self.name}.{role}.shape"
        if isinstance(x, gs.Constant):
            return gs.Constant(name, x.values.reshape(shape))
        return self.node(
            "Reshape", name, [x, gs.Constant(f"{name}.to", np.array(shape, np.int64))], shape
        )
