"""A search as JSON, so that another process can take part in it."""

import json
from base64 import b64decode, b64encode
from typing import Any

import numpy as np

from hwprune.search.decode import Decoder
from hwprune.search.problem import Bound, Factor, Problem, Variable
from hwprune.search.strategy import Task


def task_to_json(task: Task, strategy: str, enough: float) -> str:
    """Everything that decides what is proposed next."""
    document = {
        "problem": _problem(task.problem),
        "budget_ns": task.budget_ns,
        "seed": task.seed,
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
    task = Task(
        problem,
        Decoder(problem),
        found["budget_ns"],
        found["seed"],
        tuple(found["warm"]),
        found["evaluations"],
    )
    return task, found["strategy"], found["enough"]


def _problem(problem: Problem) -> dict[str, Any]:
    return {
        "variables": [[v.name, v.size, v.shares] for v in problem.variables],
        "latency": [_factor(f) for f in problem.latency],
        "loss": [_factor(f) for f in problem.loss],
        "constant_ns": problem.constant_ns,
        "bounds": [_bound(b) for b in problem.bounds],
    }


def _read_problem(found: dict[str, Any]) -> Problem:
    return Problem(
        tuple(Variable(name, count, tuple(s)) for name, count, s in found["variables"]),
        tuple(map(_read_factor, found["latency"])),
        tuple(map(_read_factor, found["loss"])),
        found["constant_ns"],
        tuple(map(_read_bound, found["bounds"])),
    )


def _bound(bound: Bound) -> dict[str, Any]:
    """`most` as text: it may be infinite, which JSON has no number for."""
    factors = [_factor(f) for f in bound.factors]
    return {
        "what": bound.what,
        "factors": factors,
        "constant": bound.constant,
        "most": str(bound.most),
    }


def _read_bound(found: dict[str, Any]) -> Bound:
    factors = tuple(map(_read_factor, found["factors"]))
    return Bound(found["what"], factors, found["constant"], float(found["most"]))


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
