"""Any assignment made to fit the bounds without knowing what matters, as plain searches do it."""

from collections.abc import Mapping

import numpy as np

from hwprune.search.problem import Assignment
from hwprune.search.strategy import Task


def repaired(task: Task, assignment: Assignment, rng: np.random.Generator) -> dict[str, int]:
    """Random variables shrunk until it fits, then random ones grown while it does.

    The precisions of `assignment` are held meanwhile, and chosen anew for what is kept then.
    """
    found = dict(assignment)
    while task.used(found) > 1.0:
        if not (relief := reliefs(task, found)):
            return task.decode().assignment
        found |= relief[int(rng.integers(len(relief)))]
    for i in rng.permutation(len(task.kept)):
        found |= _grown(task, found, task.kept[i].name, task.kept[i].size)
    held = {v.name: found[v.name] for v in task.kept}
    return task.completed(held) or found


def reliefs(task: Task, assignment: Assignment) -> list[Mapping[str, int]]:
    """Changes of one variable, as small as they can be, that relieve the tightest bound.

    A step within a plateau relieves nothing, so the next ones are tried.
    """
    used = task.used(assignment)
    found: list[Mapping[str, int]] = []
    for v in task.kept:
        for option in reversed(range(assignment[v.name])):
            if task.used({**assignment, v.name: option}) < used:
                found.append({v.name: option})
                break
    return found


def _grown(task: Task, assignment: Assignment, name: str, size: int) -> Mapping[str, int]:
    """The highest option of a variable that fits."""
    for option in reversed(range(assignment[name] + 1, size)):
        if task.used({**assignment, name: option}) <= 1.0:
            return {name: option}
    return {}
