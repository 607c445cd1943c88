"""The search problem in plain numbers: latency factors from the table, loss factors from data."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from hwprune.graph.channels import Coupling
from hwprune.latency.calibrate import Calibration
from hwprune.latency.estimator import Estimator
from hwprune.latency.space import SearchSpace
from hwprune.precision import INT8
from hwprune.pruning.ranking import Ranking
from hwprune.search.problem import Factor, Problem, Variable

_TIE = 1e-6  # nats for a whole group: width is kept where it costs neither time nor loss


def build_problem(
    estimator: Estimator,
    space: SearchSpace,
    calibration: Calibration,
    rankings: Mapping[str, Ranking],
    branch_losses: Mapping[str, float],
    kernel_losses: Mapping[str, Mapping[str, float]],
    bit_losses: Mapping[str, Mapping[int, float]],
) -> Problem:
    """Joins what is known about time with what is estimated about loss (nats, additive).

    `space` may offer bits beside what the estimator knows of. `kernel_losses` are by node and
    kernel, `bit_losses` by node and bits, of nodes in int8; those that are not told lose nothing.
    """
    shares = space.shares
    variables = tuple(Variable(n, size, shares.get(n, ())) for n, size in space.sizes.items())
    latency = tuple(Factor(f.scope, f.table) for f in estimator.factors(calibration))
    loss = _width_losses(space, estimator.network.coupling, rankings)
    loss += [
        Factor((f"branch:{b}",), np.array([max(0.0, branch_losses[b]), 0.0]), f"branch:{b}")
        for b in space.branches
    ]
    for node, options in space.kernels.items():
        losses = kernel_losses.get(node, {})
        table = np.array([max(0.0, losses.get(kernel, 0.0)) for kernel in options])
        loss.append(Factor((f"kernel:{node}",), table))
    loss += [_bit_loss(space, node, bit_losses.get(node, {})) for node in space.weight_bits]
    return Problem(variables, latency, tuple(loss), 0.0)


def _bit_loss(space: SearchSpace, node: str, losses: Mapping[int, float]) -> Factor:
    """Bits matter where the node runs in int8; one knob tells them from widths."""
    kernels = space.kernels[node]
    table = np.zeros((len(kernels), len(space.weight_bits[node])))
    table[kernels.index(INT8)] = [max(0.0, losses.get(b, 0.0)) for b in space.weight_bits[node]]
    return Factor((f"kernel:{node}", f"bits:{node}"), table, "bits")


def _width_losses(
    space: SearchSpace, coupling: Coupling, rankings: Mapping[str, Ranking]
) -> list[Factor]:
    found = []
    for name, options in space.widths.items():
        table = np.array(
            [sum(_loss(rankings[g], coupling.full[g], w) for g, w in o.items()) for o in options]
        )
        inside = _branches_around(coupling, list(options[0]))
        scope = (f"width:{name}", *(f"branch:{b}" for b in inside))
        full = np.zeros([len(options)] + [2] * len(inside))
        kept: tuple[Any, ...] = (..., *(1 for _ in inside))
        full[kept] = table  # a group in a dropped branch loses nothing more
        found.append(Factor(scope, full, f"width:{name}"))
    return found


def _loss(ranking: Ranking, full: int, width: int) -> float:
    return float(ranking.error[full - width]) + _TIE * (1 - width / full)


def _branches_around(coupling: Coupling, groups: list[str]) -> list[str]:
    """Branches that contain every producer and consumer of all the groups."""
    nodes = {
        n for g in groups for n in (*coupling.group(g).producers, *coupling.group(g).consumers)
    }
    return [b.name for b in coupling.branches if nodes and nodes <= set(b.nodes)]
