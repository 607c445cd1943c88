"""Networks in which a few nodes compute otherwise, and what each of them loses."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from hwprune.network.fork import Tail, fork
from hwprune.network.run import Inputs, as_loss, batches, is_classifier, kl, outputs


@dataclass(frozen=True, slots=True)
class Trial:
    """Some nodes in one form: where they begin to tell, and who runs the network with them."""

    nodes: Sequence[str]
    form: str
    begin: frozenset[str]
    interpreter: Callable[[], fx.Interpreter]


class Exchanged(fx.Interpreter):
    """Runs a twin with other layers in place of some, which are named by their paths."""

    def __init__(self, twin: fx.GraphModule, layers: Mapping[str, nn.Module]) -> None:
        super().__init__(twin)
        self.layers = layers

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        """The layer's value, or that of the one in its place."""
        layer = self.layers.get(target)
        return layer(*args) if layer is not None else super().call_module(target, args, kwargs)


@torch.no_grad()
def losses(twin: fx.GraphModule, trials: Sequence[Trial], x: Inputs) -> list[float]:
    """What each trial loses: mean KL divergence in nats for a classifier (one `N x classes`
    output), else noise power over signal power.
    """
    reference = outputs(twin, x)
    found = [0.0] * len(trials)
    tails = [Tail(twin, trial.begin) for trial in trials]
    for i, values in fork(twin, batches(twin, x), [tail.needs for tail in tails]):
        found[i] = _loss(reference, tails[i].answers(trials[i].interpreter(), values))
    return found


def blocks(names: Sequence[str], runs: int) -> Iterator[Sequence[str]]:
    """`names` in at most `runs` parts of equal length."""
    size = -(-len(names) // max(1, runs))
    return (names[start : start + size] for start in range(0, len(names), size or 1))


def _loss(reference: Sequence[Tensor], answer: Sequence[Tensor]) -> float:
    if is_classifier(reference):
        return as_loss(kl(reference[0], answer[0]))
    ratios = [
        float((a - r).square().sum() / r.square().sum().clamp_min(1e-30))
        for r, a in zip(reference, answer, strict=True)
    ]
    return as_loss(sum(ratios) / len(ratios))
