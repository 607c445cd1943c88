"""The file that a decision becomes: its plan, and how many bytes it takes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from hwprune.backend import Capabilities
from hwprune.differentiable.decisions import Decision, Inclinations, fitted
from hwprune.differentiable.structure import Product
from hwprune.errors import InfeasibleError
from hwprune.export.lower import lower
from hwprune.export.placeholder import placeholder_encodings
from hwprune.export.storage import stored_parts_bytes
from hwprune.graph.channels import Coupling
from hwprune.graph.slim import slim
from hwprune.plan import Plan
from hwprune.quantize.encodings import levels_of
from hwprune.units import format_bytes

_TRIES = 6  # of foreseeing what a file takes beside its weights
_ACT_BITS = 8


@dataclass(frozen=True, slots=True, eq=False)
class Files:
    """Of one network: `kernels` are of the nodes that run on integers."""

    graph: gs.Graph
    coupling: Coupling
    capabilities: Capabilities
    kernels: Mapping[str, str]
    choice: Inclinations

    def plan(self, decision: Decision) -> Plan:
        """What carries a decision out."""
        each = {p.node: self._left(p, decision) for p in self.choice.products}
        full = dict.fromkeys(self.kernels, self.capabilities.weight_bits)
        most = {node: int(bits.max()) for node, bits in each.items()}
        mixed = {n: tuple(bits.tolist()) for n, bits in each.items() if len(np.unique(bits)) > 1}
        eight = dict.fromkeys(self.kernels, _ACT_BITS)
        return Plan(decision.keep, frozenset(), dict(self.kernels), full | most, eight, mixed)

    def size(self, decision: Decision) -> int:
        """Bytes of the very file, which do not depend on the values in it."""
        plan = self.plan(decision)
        graph = slim(self.graph, self.coupling, plan.keep)
        bits = plan.weight_bits, plan.channel_bits
        encodings = placeholder_encodings(graph, plan.kernels, self.capabilities, *bits)
        return len(lower(graph, plan.kernels, encodings, self.capabilities).SerializeToString())

    def foreseen(self, decision: Decision) -> float:
        """Bytes of all that the decision is about, without what stays the same."""
        uses = self.choice.uses(decision)
        return sum(
            stored_parts_bytes(
                round(float(use.inputs)) * use.product.kernel,
                Counter(len(levels_of(b)) for b in self._left(use.product, decision).tolist()),
                use.product.biased,
            )
            for use in uses
        )

    def within(self, widths: Mapping[str, Sequence[int]], most: int) -> Decision:
        """The decision whose file takes `most` bytes at most, and as nearly as can be.

        Raises InfeasibleError where there is none.
        """
        first = self.choice.decide(widths)
        rest = self.size(first) - self.foreseen(first)
        for _ in range(_TRIES):
            found = fitted(self.choice, widths, self.foreseen, most, rest)
            if (size := self.size(found)) <= most:
                return found
            rest = size - self.foreseen(found)
        raise InfeasibleError(f"no file of {format_bytes(most)} was found, only of {size}")

    def _left(self, product: Product, decision: Decision) -> NDArray[np.int64]:
        """The bits of those outputs that stay."""
        row = np.concatenate([*(decision.kept[g.name] for g in self.choice.row.groups), [True]])
        return decision.bits[product.node][row[product.makes].all(1)]
