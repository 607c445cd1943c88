"""Random directions in the answers whose gradients carry the curvature of the divergence."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from hwprune.network.run import Inputs, is_classifier, log_probabilities


def pulled_gradients(
    twin: nn.Module, weights: Sequence[Tensor], x: Inputs, pulls: int, seed: int
) -> Iterator[tuple[Tensor, ...]]:
    """J' u in each of the weights, for so many random u: one pass forward, one back for each."""
    generator = torch.Generator().manual_seed(seed)
    with torch.enable_grad():
        result = twin(*x)
        answers = result if isinstance(result, tuple) else (result,)
    for _ in range(pulls):
        drawn = random_pulls(answers, generator)
        yield torch.autograd.grad(
            answers, weights, drawn, retain_graph=True, allow_unused=True, materialize_grads=True
        )


@torch.no_grad()
def random_pulls(answers: Sequence[Tensor], generator: torch.Generator) -> list[Tensor]:
    """Random u for every output, of covariance F, the Hessian of the divergence from them.

    With J of the outputs, J' u has the covariance J' F J: the Hessian in whatever the answers
    depend on. Those of different samples are independent, so that one pass back serves them all.
    """
    drawn = [torch.randint(2, a.shape, generator=generator) * 2.0 - 1 for a in answers]
    if is_classifier(answers):
        p = log_probabilities(answers[0]).exp().float()
        signs = p.sqrt() * drawn[0]
        return [(signs - p * signs.sum(1, keepdim=True)) / len(p) ** 0.5]
    powers = [a.square().sum().clamp_min(1e-30) * len(answers) for a in answers]
    return [(2 / power).sqrt() * signs for power, signs in zip(powers, drawn, strict=True)]
