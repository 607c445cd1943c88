"""What every choice of the search adds to the file, in bytes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from math import inf, prod

import numpy as np

from hwprune.backend import Shape
from hwprune.export.storage import stored_bytes
from hwprune.latency.kernels import KernelGraph
from hwprune.latency.space import SearchSpace, widths_behind
from hwprune.latency.structure import Step
from hwprune.plan import Configuration
from hwprune.precision import INT8, bytes_per_weight, of_matrices
from hwprune.quantize.encodings import levels_of
from hwprune.search.problem import Bound, Factor
from hwprune.stages.subject import Subject
from hwprune.stages.trial_plans import as_built, quantised_everywhere

FILE = "the file"
_FLOAT = 4  # bytes
_WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
_PACKED = {"Conv", "Gemm", "MatMul"}  # those whose weights are rounded for what they read
_TABLES = 1000  # bytes of the tables that all layers of as many bits share, of three such widths
_FEW_BITS = (1, 2, 3, 4, 5)  # 6 and 7 take as many bytes as 8


def offering_bits(space: SearchSpace, network: KernelGraph, bits: int) -> SearchSpace:
    """`space` with the bits that weights of int8 products may have in the file; `bits` are those
    that the target multiplies. A weight too small to be packed keeps them.
    """
    found = {}
    for step in network.steps:
        able = step.op in _PACKED and INT8 in space.kernels.get(step.node, ())
        weight = prod(network.structure.shapes.at(step.inputs[1], {})) if able else 0
        fewer = [b for b in _FEW_BITS if stored_bytes(weight, len(levels_of(b))) < weight]
        if fewer:
            found[step.node] = (*fewer, bits)
    return replace(space, weight_bits=found)


def sizes_of(subject: Subject, network: KernelGraph, space: SearchSpace) -> Bound:
    """The file of a network on a target, without a bound yet: its constants by their shapes, and
    what two files hold beside.
    """
    bits, in_full = subject.capabilities.weight_bits, Configuration()
    integers = quantised_everywhere(network)
    files = [_file_bytes(subject, network, c) for c in (in_full, integers)]
    held = [_constants_bytes(network, c, bits) for c in (in_full, integers)]
    constant = files[0] - held[0]
    quantised = sum(kernel == INT8 for kernel in integers.kernels.values())
    each = max(0.0, files[1] - held[1] - constant) / max(1, quantised)
    factors = (_factor(step, network, space, bits, each) for step in network.steps)
    tables = _TABLES if space.weight_bits else 0
    return Bound(FILE, tuple(f for f in factors if np.any(f.table)), constant + tables, inf)


def _file_bytes(subject: Subject, network: KernelGraph, c: Configuration) -> int:
    return len(as_built(subject.graph, network, c, subject.capabilities).SerializeToString())


def _constants_bytes(network: KernelGraph, c: Configuration, bits: int) -> float:
    def of(step: Step) -> float:
        known = {t: network.structure.shapes.at(t, c.widths) for t in _constants(network, step)}
        stored = c.weight_bits.get(step.node, bits)
        return _bytes(step, c.kernels.get(step.node, "fp32"), stored, known)

    return sum(map(of, network.steps))


def _constants(network: KernelGraph, step: Step) -> list[str]:
    """Tensors of numbers that the file holds for a step."""
    return [t for t in step.inputs if t not in network.structure.link_of]


def _bytes(step: Step, kernel: str, bits: int, shapes: Mapping[str, Shape]) -> float:
    """Of the constants of one step in one kernel, which stores int8 weights in `bits`."""
    numbers = {t: prod(shape) for t, shape in shapes.items()}
    weight = step.inputs[1] if step.op in _WEIGHTED and len(step.inputs) > 1 else None
    rest = _FLOAT * float(sum(n for t, n in numbers.items() if t != weight))
    if weight not in numbers:
        return rest
    if kernel == INT8:
        channels = max((numbers[t] for t in numbers if t != weight), default=shapes[weight][0])
        return stored_bytes(numbers[weight], len(levels_of(bits)), channels, bias=bool(rest))
    if of_matrices(kernel):
        return rest + bytes_per_weight(kernel) * numbers[weight]
    return rest + _FLOAT * numbers[weight]


def _factor(
    step: Step, network: KernelGraph, space: SearchSpace, bits: int, each_int8: float
) -> Factor:
    """One axis for each width that the constants depend on, the kernel, the bits of its weight,
    and the branches around.
    """
    constants = _constants(network, step)
    shapes = network.structure.shapes
    widths = widths_behind(space, network.coupling, constants)
    options = list(widths.values())
    choice = [f"kernel:{step.node}"] if step.node in space.kernels else []
    kernels: Sequence[str] = space.kernels.get(step.node, ("fp32",))
    stored = space.weight_bits.get(step.node, (bits,))
    if step.node in space.weight_bits:
        choice.append(f"bits:{step.node}")
    branches = [f"branch:{b}" for b in sorted(network.within[step.node])]
    bare = np.zeros([*map(len, options), len(kernels), len(stored)])
    for at in product(*(range(len(o)) for o in options)):
        chosen = {g: w for o, i in zip(options, at, strict=True) for g, w in o[i].items()}
        known = {t: shapes.at(t, chosen) for t in constants}
        for k, kernel in enumerate(kernels):
            extra = each_int8 if kernel == INT8 else 0.0
            bare[(*at, k)] = [_bytes(step, kernel, b, known) + extra for b in stored]
    kept = bare.reshape(bare.shape[: len(options) + len(choice)])  # what there is no choice of
    for _ in branches:  # nothing, without any of them
        kept = np.stack([np.zeros_like(kept), kept], axis=-1)
    return Factor((*widths, *choice, *branches), kept)
