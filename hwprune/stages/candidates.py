"""Candidates of the search: a configuration becomes a slim, repaired network with a loss."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import onnx_graphsurgeon as gs
import torch
from torch import fx

from hwprune.graph.channels import Coupling
from hwprune.graph.slim import slim
from hwprune.network.fork import Tail, Values, fork
from hwprune.network.run import Inputs, batches, divergence, inputs_of, outputs
from hwprune.network.twin import to_module
from hwprune.plan import Configuration, Plan
from hwprune.precision import FP32, bits_of, is_storage_alone
from hwprune.pruning.damage import changed
from hwprune.pruning.ranking import Ranking
from hwprune.pruning.reconstruct import Reference
from hwprune.quantize.fewbits import round_in_place
from hwprune.stages.memo import Memo, Replayed

_ROUNDING = 256  # samples that weights of few bits are rounded for
_ACT_BITS = 8  # all kernels but fp32 compute on 8-bit activations, whoever rounds them


def plan_for(
    c: Configuration, coupling: Coupling, rankings: Mapping[str, Ranking], weight_bits: int
) -> Plan:
    """Fixes which channels stay: the ones the criterion removes last.

    `weight_bits` are those of int8 weights on the target.
    Without a ranking the first channels of a group stay, which is good for timing only.
    """
    keep = {
        name: rankings[name].kept(width) if name in rankings else tuple(range(width))
        for name, width in c.widths.items()
        if width < coupling.full[name]
    }
    rounded = {n: kernel for n, kernel in c.kernels.items() if kernel != FP32}
    return Plan(
        keep,
        c.dropped,
        dict(c.kernels),
        {n: c.weight_bits.get(n, bits_of(k, weight_bits)) for n, k in rounded.items()},
        dict.fromkeys(rounded, _ACT_BITS),
    )


def stored_in_few(plan: Plan) -> dict[str, int]:
    """Bits of the weights that have fewer in the file than their int8 kernel multiplies."""
    kernels = plan.kernels
    return {n: b for n, b in plan.weight_bits.items() if is_storage_alone(kernels.get(n, FP32), b)}


def _told(plan: Plan) -> Hashable:
    """All of a plan that tells on its loss before quantisation."""
    keep = tuple((g, tuple(channels)) for g, channels in sorted(plan.keep.items()))
    return keep, plan.dropped, tuple(sorted(stored_in_few(plan).items()))


def repaired(graph: gs.Graph, plan: Plan, reference: Reference) -> gs.Graph:
    """A slim copy of `graph` with weights refitted by least squares."""
    slimmed = slim(graph, reference.coupling, plan.keep, plan.dropped)
    reference.reconstruct(slimmed, plan.keep)
    return slimmed


@dataclass(frozen=True, slots=True)
class Evaluator:
    """Slims, repairs and judges candidates against the original, on unlabelled inputs.

    `per_channel` says whether every output of a rounded weight has a scale of its own.
    """

    graph: gs.Graph
    coupling: Coupling
    reference: Reference
    search_x: Inputs
    search_outputs: list[torch.Tensor]
    per_channel: bool = True
    memo: Memo = field(default_factory=Memo)
    identity: Hashable = None  # of everything above, where the memo is shared

    def loss(self, plan: Plan) -> float:
        """Divergence from the original's answers after repair, in fp32 but for weights that have
        fewer bits than a kernel multiplies.
        """
        return self.memo.of(("loss", self.identity, _told(plan)), lambda: self._loss(plan))

    def _loss(self, plan: Plan) -> float:
        twin = to_module(repaired(self.graph, plan, self.reference))
        few = stored_in_few(plan)
        if few:
            x = inputs_of(self.reference.x, _ROUNDING)
            twin = round_in_place(twin, few, self.per_channel, x)
        return divergence(self.search_outputs, outputs(twin, self.search_x))

    def divergence(self, slimmed: gs.Graph) -> float:
        """Of a slim network as it is."""
        return divergence(self.search_outputs, outputs(to_module(slimmed), self.search_x))

    def losses(self, plans: Sequence[Plan]) -> Iterator[tuple[int, float]]:
        """Index and `loss` of each, for plans that change little: what they share runs once.

        In the order in which they begin to differ from the original.
        """
        key = ("losses", self.identity, tuple(map(_told, plans)))
        yield from self.memo.of(key, lambda: Replayed(self._losses(plans)))

    def _losses(self, plans: Sequence[Plan]) -> Iterator[tuple[int, float]]:
        needs = [Tail(to_module(g), begins).needs for g, begins in map(self._slim, plans)]
        twin = to_module(self.graph)
        inputs = [self.reference.x, *batches(twin, self.search_x)]
        for i, (calibration, *search) in fork(twin, inputs, needs):
            yield i, self._resumed(plans[i], calibration, search)

    def _slim(self, plan: Plan) -> tuple[gs.Graph, set[str]]:
        """The slim graph, not repaired, and the nodes that the change begins at."""
        slimmed = slim(self.graph, self.coupling, plan.keep, plan.dropped)
        return slimmed, changed(self.reference.nodes, slimmed)

    @torch.no_grad()
    def _resumed(self, plan: Plan, calibration: Values, search: Sequence[Values]) -> float:
        """The loss, from what the candidate reads of the unchanged original."""
        slimmed, begins = self._slim(plan)
        self.reference.reconstruct(slimmed, plan.keep, values=calibration)
        twin = to_module(slimmed)
        answers = Tail(twin, begins).answers(fx.Interpreter(twin), search)
        return divergence(self.search_outputs, answers)
