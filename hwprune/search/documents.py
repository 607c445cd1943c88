"""A search as JSON, so that another process can take part in it."""

import json
from base64 import b64decode, b64encode
from math import inf, isfinite
from typing import Any

import numpy as np

from hwprune.search.decode import Decoder
from hwprune.search.problem import Factor, Problem, Variable
from hwprune.search.strategy import Task


def task_to_json(task: Task, strategy: str, enough: float) -> str:
    """Everything that decides what is proposed next."""
    document = {
        "problem": _problem(task.problem),
        "budget_ns": task.budget_ns,
        "seed": task.seed,
        "most_bytes": task.most_bytes if isfinite(task.most_bytes) else None,
        "warm": [dict(x) for x in task.warm],
        "evaluations": task.evaluations,
        "strategy": strategy,
        "enough": enough,
    }
    return json.dumps(document, allow_nan=False)


def task_from_json(text: str) -> tuple[Task, str, float]:
    """Reads `task_to_json` back: the task, the strategy's name, and when it is enough."""
    found = json.loads(text)
    problem = _read_problem(found["problem"])
    most = found["most_bytes"]
    task = Task(
        problem,
        Decoder(problem),
        found["budget_ns"],
        found["seed"],
        inf if most is None else most,
        tuple(found["warm"]),
        found["evaluations"],
    )
    return task, found["strategy"], found["enough"]


def _problem(problem: Problem) -> dict[str, Any]:
    return {
        "variables": [[v.name, v.size] for v in problem.variables],
        "latency": [_factor(f) for f in problem.latency],
        "loss": [_factor(f) for f in problem.loss],
        "size": [_factor(f) for f in problem.size],
        "constant_ns": problem.constant_ns,
        "constant_bytes": problem.constant_bytes,
    }


def _read_problem(found: dict[str, Any]) -> Problem:
    sums = (tuple(map(_read_factor, found[name])) for name in ("latency", "loss", "size"))
    latency, loss, size = sums
    return Problem(
        tuple(Variable(name, count) for name, count in found["variables"]),
        latency,
        loss,
        found["constant_ns"],
        size,
        found["constant_bytes"],
    )


def _factor(factor: Factor) -> dict[str, Any]:
    """Numbers as their very bits: rounding would make two different problems of one."""
    table = np.ascontiguousarray(factor.table, "<f8")
    return {
        "scope": list(factor.scope),
        "shape": list(table.shape),
        "table": b64encode(table.tobytes()).decode(),
        "knob": factor.knob,
    }


def _read_factor(found: dict[str, Any]) -> Factor:
    table = np.frombuffer(b64decode(found["table"]), "<f8").reshape(found["shape"])
    return Factor(tuple(found["scope"]), table.astype(np.float64), found["knob"])
