"""Networks of few bits with fewer channels: trained, ranked by latent weights, cut, retrained.

Guerra, Zhuang, Reid and Drummond 2020 (arXiv 2002.00523): the network is pruned as it is quantised
already, so that the criterion sees what bits have made of its weights.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import onnx_graphsurgeon as gs
import torch

from hwprune.backend import Capabilities
from hwprune.errors import UsageError
from hwprune.frontend.dataset import DataSet
from hwprune.graph.channels import Coupling, Widths
from hwprune.graph.coupling import couple
from hwprune.network.run import Inputs
from hwprune.pruning.criteria import rank_quantized
from hwprune.quantize.narrowed import narrowed
from hwprune.quantize.ptq import Quantized, quantize
from hwprune.train.orthogonality import SoftOrthogonality
from hwprune.train.qat import qat
from hwprune.train.recipe import Recipe

_CALIBRATION = 256  # samples

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Form:
    """What a network is quantised to: see `hwprune.quantize.ptq.quantize`."""

    kernels: Mapping[str, str]
    capabilities: Capabilities
    weight_bits: Mapping[str, int]
    act_bits: Mapping[str, int] = field(default_factory=dict)
    kind: str | None = None


def prune_few_bits(
    original: gs.Graph,
    data: DataSet,
    form: Form,
    widths: Widths | float,
    criterion: str = "angle",
    seed: int = 0,
    epochs: tuple[int, int] = (1, 1),
    progress: Progress | None = None,
    orthogonality: float = 0.0,
) -> Quantized:
    """Quantises and trains a network, cuts it by what it has become, and trains it again.

    Args:
        original: Canonical graph, and the teacher; left unchanged.
        data: Training part; labels are used where there are any.
        form: What it is quantised to.
        widths: Channels that stay of each group; or the share of every group's, above 0 to 1.
        criterion: A name in `hwprune.pruning.criteria.CRITERIA`.
        seed: Of everything random.
        epochs: Passes over the data before the cut, and after it.
        progress: See `hwprune.train.qat.qat`.
        orthogonality: Of the loss that keeps filters apart until the cut; the paper's is 1e-5.

    Raises:
        UsageError: No such criterion, group or width, or bits that there are not.
        DataError, ModelError: As quantising does.
    """
    whole = train_few_bits(original, data, form, seed, epochs[0], progress, orthogonality)
    narrow = cut_few_bits(whole, data, form, widths, criterion, seed)
    return qat(narrow, original, data, Recipe(epochs[1]), seed, progress)


def train_few_bits(
    original: gs.Graph,
    data: DataSet,
    form: Form,
    seed: int = 0,
    epochs: int = 1,
    progress: Progress | None = None,
    orthogonality: float = 0.0,
) -> Quantized:
    """The first of the three steps of `prune_few_bits`: nothing is cut."""
    start = quantize(
        original,
        form.kernels,
        form.capabilities,
        _samples(data, seed),
        form.weight_bits,
        form.act_bits,
        form.kind,
        latent=True,
    )
    hooks = [SoftOrthogonality(start.module, orthogonality)] if orthogonality else []
    return qat(start, original, data, Recipe(epochs), seed, progress, hooks=hooks)


def cut_few_bits(
    whole: Quantized,
    data: DataSet,
    form: Form,
    widths: Widths | float,
    criterion: str = "angle",
    seed: int = 0,
) -> Quantized:
    """The second one: channels go, and the rest is quantised as it was; nothing is trained."""
    coupling = couple(whole.graph)
    rankings = rank_quantized(whole, coupling, _samples(data, seed), criterion, seed)
    left = _widths(coupling, widths)
    keep = {n: ranking.kept(left[n]) for n, ranking in rankings.items() if n in left}
    return narrowed(whole, coupling, keep, form.kernels, form.capabilities)


def _widths(coupling: Coupling, widths: Widths | float) -> Widths:
    """Of the groups that are narrowed."""
    full = {group.name: group.width for group in coupling.prunable}
    if isinstance(widths, int | float):
        if not 0 < widths <= 1:
            raise UsageError(f"{widths:g} is no share of channels", "give one above 0, at most 1")
        return {name: max(1, round(widths * width)) for name, width in full.items()}
    for name, width in widths.items():
        if not 1 <= width <= full.get(name, 0):
            raise UsageError(f"group {name!r} cannot have {width} channels")
    return widths


def _samples(data: DataSet, seed: int) -> Inputs:
    few = data.take(_CALIBRATION, seed)
    return tuple(map(torch.from_numpy, few.inputs(slice(None))))
