"""The Plan: the only bridge from search to the passes that change the network."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from hwprune.errors import StoreError

VERSION = 1


@dataclass(frozen=True, slots=True)
class Configuration:
    """A point of the search space: how wide, which branches go, which kernel each node gets, and
    how many bits its weight has in the file.

    Groups left out of `widths` keep their full width; nodes left out of `kernels` run fp32, and
    those left out of `weight_bits` store all that their kernel multiplies.
    """

    widths: Mapping[str, int] = field(default_factory=dict)  # group name -> channels kept
    dropped: frozenset[str] = frozenset()  # branch names
    kernels: Mapping[str, str] = field(default_factory=dict)  # node name -> see `hwprune.precision`
    weight_bits: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """A configuration with the very channels that stay.

    `keep` lists, per group that is narrowed, the kept channel indices in ascending order;
    `weight_bits` and `act_bits` are per node that does not run fp32: what it computes with, so that
    `act_bits` are 8 for products that read fp32 and round it on the way. Of a node whose outputs
    differ, `channel_bits` lists the bits of each that is kept, and `weight_bits` is the most.
    """

    keep: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()
    kernels: Mapping[str, str] = field(default_factory=dict)
    weight_bits: Mapping[str, int] = field(default_factory=dict)
    act_bits: Mapping[str, int] = field(default_factory=dict)
    channel_bits: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def configuration(self) -> Configuration:
        """The plan without the identity of the channels."""
        widths = {g: len(kept) for g, kept in self.keep.items()}
        return Configuration(widths, self.dropped, self.kernels, self.weight_bits)

    def to_json(self) -> str:
        """Canonical JSON: equal plans give equal bytes."""
        document = {
            "version": VERSION,
            "keep": {g: list(k) for g, k in self.keep.items()},
            "dropped": sorted(self.dropped),
            "kernels": dict(self.kernels),
            "weight_bits": dict(self.weight_bits),
            "act_bits": dict(self.act_bits),
            "channel_bits": {n: list(b) for n, b in self.channel_bits.items()},
        }
        return json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """Reads `to_json` back, also without what later versions added.

        Raises StoreError for anything else.
        """
        try:
            d = json.loads(text)
            if d["version"] != VERSION:
                raise StoreError(f"plan has version {d['version']}, this hwprune reads {VERSION}")
            return cls(
                {str(g): tuple(int(i) for i in k) for g, k in d["keep"].items()},
                frozenset(str(b) for b in d["dropped"]),
                {str(n): str(k) for n, k in d["kernels"].items()},
                {str(n): int(b) for n, b in d["weight_bits"].items()},
                {str(n): int(b) for n, b in d["act_bits"].items()},
                {str(n): tuple(map(int, b)) for n, b in d.get("channel_bits", {}).items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise StoreError(f"not a plan: {e}", "delete it; the next run writes it again") from e
