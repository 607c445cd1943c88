"""From logits to whole bits: the likeliest, rounded to legal widths, and within a bound.

A price on bytes moves all choices at once: an output takes the bits whose logit less their price
is the largest. At price 0 that is the argmax of the paper; the least price whose network fits a
bound takes bytes where they are liked least, and one below 0 fills up what the bound leaves.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hwprune.differentiable.costs import PARAMETERS, Cost, Use, stored, uses_of
from hwprune.differentiable.structure import Product, Row
from hwprune.errors import InfeasibleError
from hwprune.units import format_bytes

_HALVINGS = 40
_DEAREST = 6.0  # decades of the price of all bytes together, in logits


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """What stays, and its bits.

    Attributes:
        kept: Per group that may shrink, whether each channel stays.
        bits: Per node, of each output of the whole network; never 0.
    """

    kept: Mapping[str, NDArray[np.bool_]]
    bits: Mapping[str, NDArray[np.int64]]

    @property
    def keep(self) -> dict[str, tuple[int, ...]]:
        """Per group that shrinks, the channels that stay."""
        found = {g: tuple(np.flatnonzero(k).tolist()) for g, k in self.kept.items()}
        return {g: channels for g, channels in found.items() if len(channels) < len(self.kept[g])}


@dataclass(frozen=True, slots=True, eq=False)
class Inclinations:
    """Logits after a search.

    Attributes:
        row: The channels that may go.
        products: The layers that choose.
        logits: Per node, options x outputs.
        zeros: Per group, of each channel's going.
        makers: Per group, the nodes whose outputs its channels are (width x repeat).
    """

    row: Row
    products: tuple[Product, ...]
    logits: Mapping[str, Tensor]
    zeros: Mapping[str, Tensor]
    makers: Mapping[str, Mapping[str, Tensor]]

    def decide(self, widths: Mapping[str, Sequence[int]], price: float = 0.0) -> Decision:
        """The likeliest at a price per byte; `widths` are the legal ones of a group, else any."""
        liking = {p.node: self._liking(p, price) for p in self.products}
        bits = {p.node: np.array(p.bits)[liking[p.node].argmax(0).numpy()] for p in self.products}
        best = {node: found.amax(0) for node, found in liking.items()}
        kept = {
            g: _most(self._margin(g, best), widths.get(g, range(1, len(zero) + 1)))
            for g, zero in self.zeros.items()
        }
        return Decision(kept, bits)

    def uses(self, decision: Decision) -> list[Use]:
        """What a decision leaves of the products."""
        row = np.concatenate([*(decision.kept[g.name] for g in self.row.groups), [True]])
        shares = [
            torch.from_numpy(np.equal.outer(p.bits, decision.bits[p.node]).astype(np.float32))
            for p in self.products
        ]
        return uses_of(self.products, shares, torch.from_numpy(row.astype(np.float32)))

    def _liking(self, product: Product, price: float) -> Tensor:
        """Options x outputs."""
        each = len(product.reads) * product.kernel
        dear = [stored(b) * each + PARAMETERS[product.biased] for b in product.bits]
        return self.logits[product.node] - price * torch.tensor(dear)[:, None]

    def _margin(self, group: str, best: Mapping[str, Tensor]) -> NDArray[np.float32]:
        """By how much each channel should stay."""
        found = [best[node][outputs].mean(1) for node, outputs in self.makers[group].items()]
        stays = torch.stack(found).mean(0) if found else torch.ones(())
        margin: NDArray[np.float32] = (stays - self.zeros[group]).numpy()
        return margin


def fitted(
    inclinations: Inclinations,
    widths: Mapping[str, Sequence[int]],
    bytes_of: Callable[[Decision], float],
    most: float,
    rest: float,
) -> Decision:
    """The decision that fills `most` bytes, of which `rest` are taken, as nearly as can be.

    Raises InfeasibleError where even the narrowest network of the fewest bits takes more.
    """
    whole, room = bytes_of(inclinations.decide(widths)), most - rest

    def at(decades: float) -> Decision:
        price = np.sign(decades) * (10.0 ** abs(decades) - 1) / whole
        return inclinations.decide(widths, float(price))

    low, high = -_DEAREST, _DEAREST
    if (least := bytes_of(at(high))) > room:
        raise InfeasibleError(
            f"{format_bytes(round(most))} cannot be met: with the fewest bits and channels "
            f"the file takes {format_bytes(round(least + rest))}"
        )
    if bytes_of(at(low)) <= room:
        return at(low)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if bytes_of(at(middle)) <= room else (middle, high)
    return at(high)


def promoted(inclinations: Inclinations, decision: Decision, cost: Cost) -> Decision:
    """Outputs have more bits wherever that makes nothing dearer, the most inclined ones first.

    A kernel that computes 32 outputs at once takes as long for 5: others may move in.
    """
    found = float(cost(inclinations.uses(decision)))
    for product in inclinations.products:
        for high in reversed(range(1, len(product.bits))):
            for low in range(high):
                for more in _moves(inclinations, decision, product, low, high):
                    other = float(cost(inclinations.uses(more)))
                    if other <= found * (1 + 1e-6):
                        decision, found = more, other
                        break
    return decision


def _moves(
    inclinations: Inclinations, decision: Decision, product: Product, low: int, high: int
) -> Sequence[Decision]:
    """Decisions with some of one layer's outputs in more bits: all of them first, one last."""
    bits, logits = decision.bits[product.node], inclinations.logits[product.node]
    there = inclinations.uses(decision)[inclinations.products.index(product)].shares[low] > 0
    able = np.flatnonzero(there.numpy())
    order = able[np.argsort(-(logits[high] - logits[low]).numpy()[able], kind="stable")]
    found = []
    for count in reversed(range(1, len(order) + 1)):
        moved = bits.copy()
        moved[order[:count]] = product.bits[high]
        found.append(replace(decision, bits={**decision.bits, product.node: moved}))
    return found


def _most(margin: NDArray[np.float32], legal: Sequence[int]) -> NDArray[np.bool_]:
    """The channels of the largest margins: as many as are above 0, or the nearest legal number."""
    wanted = int((margin > 0).sum())
    count = min(legal, key=lambda width: (abs(width - wanted), -width))
    kept = np.zeros(len(margin), bool)
    kept[np.argsort(-margin, kind="stable")[:count]] = True
    return kept
