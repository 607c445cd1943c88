"""Sweeps over channel counts on a small kernel of each class: where the hardware has its steps.

They belong to the target and not to a network, and are shared by all.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from math import prod

from hwprune.backend import Capabilities, Kernel, Layouts
from hwprune.latency.family import Class, Family, class_of
from hwprune.latency.structure import listed
from hwprune.latency.sweep_fit import fit_teeth
from hwprune.latency.teeth import Teeth

_SIZE, _CHANNELS, _FEW, _ROWS = 14, 32, 3, 64
_DENSE = {"Gemm", "MatMul"}
_WORTH = 0.01  # of the multiply-accumulates of a network, for a class to be swept
_KINDS = {"dense": ("in", "out"), "pointwise": ("in", "out"), "depthwise": ("both",)}
# Size of the image -> channels in and out.
_USUAL = {56: (32, 64, 128), 28: (64, 128, 256), 14: (128, 256, 512), 7: (256, 512)}


def sweepable(classes: Iterable[Class]) -> list[Class]:
    """Those of the classes whose steps a sweep can tell."""
    kinds = ("dense", "pointwise", "depthwise")
    return sorted({c for c in classes if (c[0] == "Conv" and c[3] in kinds) or c[0] in _DENSE})


def worth_sweeping(families: Iterable[Family]) -> list[Class]:
    """Those of the classes whose steps a sweep can tell, and that do some of the network's work.

    The steps of a head that takes a thousandth of the time would be the larger part of the rows.
    """
    work: dict[Class, float] = {}
    whole: dict[str, float] = {}  # by precision, of which a plan may have either
    for family in families:
        most = max(map(macs, family.members))
        whole[family.signature.precision] = whole.get(family.signature.precision, 0.0) + most
        for name in dict.fromkeys(family.classes):
            work[name] = work.get(name, 0.0) + most
    return sweepable(name for name in work if work[name] > _WORTH * max(whole.values()))


def macs(kernel: Kernel) -> float:
    """Multiply-accumulates of a convolution or product; 0 of anything else."""
    if kernel.op not in {"Conv", *_DENSE} or len(kernel.inputs) < 2:
        return 0.0
    inner = prod(kernel.inputs[1][1:]) if kernel.op == "Conv" else kernel.inputs[0][-1]
    return float(prod(kernel.output) * inner)


def sweep_counts() -> tuple[int, ...]:
    """Counts to measure: one of the longest periods in full, and the steps of one more."""
    return (*range(1, 65), *range(68, 129, 4))


def sweep(wanted: Class, layouts: Layouts, counts: Sequence[int] = ()) -> dict[int, Kernel]:
    """Channel count -> the kernel of class `wanted` with that count, all else equal."""
    found = {}
    for count in counts or sweep_counts():
        for other in (_CHANNELS, _CHANNELS - 1, _FEW):  # the others for what has no blocks
            kernel = _kernel(wanted, count, other, layouts)
            if class_of(kernel, wanted[4]) == wanted:
                found[count] = kernel
                break
    return found


def teeth_of(
    sweeps: Mapping[Class, Mapping[int, Kernel]], known: Mapping[Kernel, float]
) -> dict[Class, Teeth]:
    """The pattern of every class whose sweep was measured."""
    found = {}
    for name, kernels in sweeps.items():
        times = {count: known[k] for count, k in kernels.items() if k in known}
        if len(times) >= 8:
            found[name] = fit_teeth(times)
    return found


def all_classes(capabilities: Capabilities) -> list[Class]:
    """Every class whose steps a sweep could tell on this target."""
    blocked = "Conv" in capabilities.layouts.blocked
    found: list[Class] = []
    for op in ("Conv", *sorted(_DENSE)):
        for precision in ("fp32", *sorted(capabilities.precisions.get(op, ()))):
            in_blocks = op == "Conv" and precision == "fp32" and blocked
            for layout in ("", *(['"blocked"'] if in_blocks else [])):
                kinds = _KINDS if op == "Conv" else {"": ("in", "out")}
                found += [
                    (op, precision, layout, k, r) for k, roles in kinds.items() for r in roles
                ]
    return sweepable(found)


def usual_convolutions(capabilities: Capabilities, batch: int = 1) -> list[Kernel]:
    """3x3 and 1x1 convolutions of the sizes that networks for images are made of."""
    precisions = ("fp32", *sorted(capabilities.precisions.get("Conv", ())))
    found = []
    for size, widths in _USUAL.items():
        for inputs, outputs in product(widths, widths):
            for window, precision in product((1, 3), precisions):
                made = conv(
                    precision, inputs, outputs, window, capabilities.layouts, 1, size, batch
                )
                found.append(made)
    return found


def _kernel(wanted: Class, count: int, other: int, layouts: Layouts) -> Kernel:
    op, precision, _, kind, role = wanted
    inputs, outputs = (other, count) if role == "out" else (count, other)
    if op in _DENSE:
        return _matrix(op, precision, inputs, outputs)
    if kind == "depthwise":
        return conv(precision, count, count, 3, layouts, groups=count)
    return conv(precision, inputs, outputs, 1 if kind == "pointwise" else 3, layouts)


def conv(
    precision: str,
    inputs: int,
    outputs: int,
    window: int,
    layouts: Layouts,
    groups: int = 1,
    size: int = _SIZE,
    batch: int = 1,
) -> Kernel:
    """A convolution of a small image, as the target runs it."""
    attributes = {
        "dilations": [1, 1], "group": groups, "kernel_shape": [window] * 2,
        "pads": [window // 2] * 4, "strides": [1, 1],
    }  # fmt: skip
    if precision == "fp32" and layouts.convolves_in_blocks(inputs, outputs, groups):
        few = groups == 1 and inputs < layouts.block
        attributes["layout"] = "blocking" if few else "blocked"
    data, filters = (batch, inputs, size, size), (outputs, inputs // groups, window, window)
    shapes = (data, filters, (outputs,))
    return Kernel("Conv", precision, shapes, (batch, outputs, size, size), _named(attributes))


def _matrix(op: str, precision: str, inputs: int, outputs: int) -> Kernel:
    shapes = ((_ROWS, inputs), (inputs, outputs)) + (((outputs,),) if op == "Gemm" else ())
    return Kernel(op, precision, shapes, (_ROWS, outputs))


def _named(attributes: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    return tuple((k, listed(v)) for k, v in sorted(attributes.items()))
