"""What a network costs whose outputs have bits by shares: differentiable, and exact for whole ones.

Constants of the two accelerators are those of the reference implementation of arXiv 2407.01054
(MPIC) and the shape of its tiled model (NE16); neither claims to be cycle-exact.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hwprune.differentiable.structure import Index, Product
from hwprune.export.storage import stored_bytes, word_of
from hwprune.quantize.encodings import levels_of


@dataclass(frozen=True, slots=True, eq=False)
class Use:
    """What is left of a product.

    Attributes:
        product: Of the whole network.
        shares: Options x outputs; a column adds up to whether the output is there.
        inputs: How many are there (0-d).
    """

    product: Product
    shares: Tensor
    inputs: Tensor

    @property
    def counts(self) -> Tensor:
        """Outputs of each option."""
        return self.shares.sum(1)


def uses_of(products: Sequence[Product], shares: Sequence[Tensor], row: Tensor) -> list[Use]:
    """What is left of products of whose outputs there are shares, under the row's presences."""

    def there(index: Index) -> Tensor:
        return row[torch.from_numpy(index).to(row.device)].prod(1)

    return [
        Use(p, share * there(p.makes), there(p.reads).sum())
        for p, share in zip(products, shares, strict=True)
    ]


Cost = Callable[[Sequence[Use]], Tensor]  # of the whole network, 0-d
PARAMETERS = stored_bytes(0, 255, 1, bias=False), stored_bytes(0, 255, 1)  # bytes of an output


def size_bytes(uses: Sequence[Use]) -> Tensor:
    """Bytes of all weights, sum of inputs x kernel x outputs by bits (equation for the size), as
    dense as the file packs them, and of what each output has beside them.
    """
    return torch.stack([_bytes(use) for use in uses]).sum()


def size_bits(uses: Sequence[Use]) -> Tensor:
    """The same as the paper counts: the bits of the weights and nothing else."""
    return _of_weights(uses, lambda bits: float(bits))


_MPIC = {2: 2.5, 4: 2.3, 8: 2.1}  # multiply-accumulates a cycle, activations of 8 bits


def mpic_cycles(uses: Sequence[Use]) -> Tensor:
    """Cycles on MPIC, a RISC-V core with mixed-precision SIMD: MACs per cycle by bits."""
    each = [use.product.positions for use in uses]
    return _of_weights(uses, lambda bits: 1 / _MPIC[_step(bits, _MPIC)], each)


_TILE = 32  # output channels that NE16 computes at once
_INPUTS, _PATCH = 16, 3  # input channels, and outputs along a side of the image
_SETUP = 24  # cycles of a tile beside its weights: activations in, results out


def ne16_cycles(uses: Sequence[Use]) -> Tensor:
    """Cycles on an accelerator like NE16 (GAP9), whose weights go in bit by bit.

    Outputs of one number of bits are computed 32 at a time, from 16 inputs, for 3 x 3 positions of
    the image. Every begun tile costs as much as a full one; gradients see through the steps.
    """
    return torch.stack([_tiled(use) for use in uses]).sum()


def _tiled(use: Use) -> Tensor:
    product = use.product
    patches = -(-product.side[0] // _PATCH) * -(-product.side[1] // _PATCH)
    bits = torch.tensor(product.bits, dtype=torch.float, device=use.shares.device)
    each = _SETUP + bits * product.kernel
    tiles = _begun(use.counts / _TILE) * each
    return tiles.sum() * _begun(use.inputs / _INPUTS) * patches


def _begun(tiles: Tensor) -> Tensor:
    """Rounded up; the gradient is that of the number itself (Bengio et al. 2013)."""
    return tiles + (torch.ceil(tiles - 1e-4) - tiles).detach()


def _bytes(use: Use) -> Tensor:
    dense = [stored(bits) for bits in use.product.bits]
    weights = _weighted(use, dense) * use.inputs * use.product.kernel
    return weights + use.counts.sum() * PARAMETERS[use.product.biased]


def stored(bits: int) -> float:
    """Bytes that a weight takes in the file."""
    word = word_of(len(levels_of(bits)))
    return word.bytes / word.count


def _of_weights(
    uses: Sequence[Use], of_bits: Callable[[int], float], times: Sequence[int] | None = None
) -> Tensor:
    """The sum over weights of a figure by their bits."""
    found = [
        _weighted(use, [of_bits(b) for b in use.product.bits]) * use.inputs * use.product.kernel
        for use in uses
    ]
    return sum(part * n for part, n in zip(found, times or [1] * len(found), strict=True))  # type: ignore[return-value]


def _weighted(use: Use, figures: Sequence[float]) -> Tensor:
    return use.counts @ torch.tensor(figures, device=use.shares.device)


def _step(bits: int, table: Mapping[int, float]) -> int:
    """The width that so many bits are computed in."""
    return min((b for b in table if b >= bits), default=max(table))


COSTS: Mapping[str, Cost] = {
    "size": size_bytes,
    "bits": size_bits,
    "mpic": mpic_cycles,
    "ne16": ne16_cycles,
}
