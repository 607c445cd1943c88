"""Kernels that change the precision or layout of a tensor between those who write and read it."""

from functools import lru_cache

from hwprune.backend import Kernel, Shape
from hwprune.latency.layouts import CHANNELS_LAST, Form
from hwprune.latency.structure import listed

TO_LAST, TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
_FLOATS = (Form.PLAIN, Form.BLOCKED, Form.FLOATS_LAST)
_FIRST = frozenset(Form) - CHANNELS_LAST
_KNOWN = 1 << 16  # results that are remembered


def boundaries(form: Form, wanted: tuple[Form, ...], shape: Shape) -> tuple[Kernel, ...]:
    """What a tensor in `form` needs for readers that want it in others."""
    make = _from_floats if form in _FLOATS else _from_integers
    return make(form, wanted, shape)


@lru_cache(_KNOWN)
def _from_floats(form: Form, wanted: tuple[Form, ...], shape: Shape) -> tuple[Kernel, ...]:
    """One reordering, one quantisation and one transpose of either kind serve all readers."""
    found, last = [], form is Form.FLOATS_LAST
    if form is Form.BLOCKED and set(wanted) - {Form.BLOCKED}:
        found.append(Kernel("ReorderOutput", "fp32", (shape,), shape))
    if form is not Form.BLOCKED and Form.BLOCKED in wanted:
        found.append(Kernel("ReorderInput", "fp32", (shape,), shape))
    turned, order = (_FIRST, TO_FIRST) if last else (CHANNELS_LAST, TO_LAST)
    if turned.intersection(wanted).intersection(_FLOATS):
        found.append(transposed(shape, order, "fp32"))
    if Form.ROWS in wanted or Form.LAST in wanted:
        found.append(Kernel("QuantizeLinear", "int8", (shape,), shape))
    if turned.intersection(wanted).difference(_FLOATS):
        found.append(transposed(shape, order))
    return tuple(found)


@lru_cache(_KNOWN)
def _from_integers(form: Form, wanted: tuple[Form, ...], shape: Shape) -> tuple[Kernel, ...]:
    """One transpose serves all readers, but every fp32 reader has a dequantisation of its own."""
    found = []
    if form is Form.LAST and _FIRST.intersection(wanted):
        found.append(transposed(shape, TO_FIRST))
    if form is Form.ROWS and CHANNELS_LAST.intersection(wanted):
        found.append(transposed(shape, TO_LAST))
    floats = [w for w in wanted if w in _FLOATS]
    found += [Kernel("DequantizeLinear", "int8", (shape,), shape) for _ in floats]
    blocked = [w for w in wanted if w is Form.BLOCKED]
    found += [Kernel("ReorderInput", "fp32", (shape,), shape) for _ in blocked]
    return tuple(found)


def transposed(shape: Shape, order: tuple[int, ...], precision: str = "int8") -> Kernel:
    """Between channels first and last; `shape` has them first."""
    if order == TO_LAST:
        before, after = shape, tuple(shape[i] for i in TO_LAST)
    else:
        before, after = tuple(shape[i] for i in TO_LAST), shape
    return Kernel("Transpose", precision, (before,), after, (("perm", listed(order)),))
