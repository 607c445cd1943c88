"""Other processes in a compile's search: what they are told, and how they take part."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from hwprune.errors import UsageError
from hwprune.graph.read import to_proto
from hwprune.latency.space import SearchSpace
from hwprune.report.jsonio import from_json, to_json
from hwprune.search.strategy import Evaluated
from hwprune.search.study import Progress, Shared, join
from hwprune.search.trials import Evaluate
from hwprune.stages.choice import Choice
from hwprune.stages.losses import Losses, candidate_loss, losses_from
from hwprune.stages.options import CompileOptions
from hwprune.stages.rewriting import rewritten_job
from hwprune.stages.run import Run
from hwprune.stages.sources import Job, load_job
from hwprune.target import parse_target
from hwprune.units import Budget, format_ns

_SAMPLES = 64  # that data are told apart by
_TOLD = ("model", "weights", "data", "train_data", "eval_data", "mean", "std", "scale", "target",
         "batch", "runtime", "shapes", "max_model_size", "seed")  # fmt: skip


def shared(run: Run, losses: Losses) -> Shared:
    """The search's name, and all that another process needs to evaluate its candidates."""
    job, options = run.job, asdict(run.job.options)
    context = {
        "options": json.loads(json.dumps({k: options[k] for k in _TOLD}, default=str)),
        "rewrite": job.choice.document(),
        "losses": losses.document(),
        "space": json.loads(to_json(run.profile.space)),
        "same": _identity(job),
    }
    return Shared(job.options.study or study_name(job), context)


def standing(done: int, total: int, best: Evaluated | None) -> str:
    """Where a search is, in a line."""
    found = (
        f"best loss {best.loss:.4f} at {format_ns(best.latency_ns)}" if best else "none fits yet"
    )
    return f"candidate {done} of {total}, {found}"


def study_name(job: Job) -> str:
    """What a search is called unless --study says otherwise."""
    return f"{job.model.name}-{parse_target(job.options.target).label}"


def join_search(
    storage: Path | str,
    name: str | None,
    model: str | None = None,
    data: str | None = None,
    wait: float = 60.0,
    progress: Progress | None = None,
) -> int:
    """Evaluates candidates of the searches of that name, or of all: see `search.study.join`.

    `model` and `data` are what this machine calls them; None: as they were named at the start.

    Raises:
        StoreError: There is no such search.
        UsageError: Model, data or target are not what they are where the search was started.
    """
    known: dict[str, Evaluate] = {}

    def evaluator(context: Mapping[str, Any]) -> Evaluate:
        text = json.dumps(context, sort_keys=True)
        if text not in known:
            known[text] = objective(context, model, data)
        return known[text]

    return join(storage, name, evaluator, progress, wait)


def objective(context: Mapping[str, Any], model: str | None, data: str | None) -> Evaluate:
    """The loss of an assignment as the process that started the search would measure it."""
    job = job_of(context, model, data)
    space = from_json(SearchSpace, json.dumps(context["space"]))
    network = job.subject.network()

    def configuration(assignment: Mapping[str, int]) -> Any:
        return network.settled(space.configuration(assignment))

    return candidate_loss(job, losses_from(job, context["losses"]), configuration)


def job_of(context: Mapping[str, Any], model: str | None, data: str | None) -> Job:
    """The job that a search's context tells of. Raises UsageError where it is another one here."""
    told = {k: _restored(k, v) for k, v in context["options"].items() if v is not None}
    told |= {k: v for k, v in (("model", model), ("data", data)) if v is not None}
    job = load_job(CompileOptions(budget=Budget(ratio=1.0), **told))
    job = rewritten_job(job, Choice.of(context["rewrite"]))
    for what, found in _identity(job).items():
        if found != context["same"][what]:
            raise UsageError(
                f"the {what} here differs from that of the search",
                _MENDING.get(what, "search where they are alike"),
            )
    return job


_MENDING = {
    "model": "name the same file: hwprune search --join NAME MODEL",
    "data": "name the same data: hwprune search --join NAME MODEL --data DATA",
}


def _identity(job: Job) -> dict[str, str]:
    """What must be alike for losses to be alike."""
    able = job.capabilities
    samples = [*job.calibration(_SAMPLES), *job.search_inputs(_SAMPLES)]
    parts = {
        "model": to_proto(job.graph).SerializeToString(),
        "data": b"".join(x.numpy().tobytes() for x in samples),
        "target": repr((able.weight_bits, able.per_channel)).encode(),
    }
    return {what: sha256(raw).hexdigest()[:16] for what, raw in parts.items()}


def _restored(name: str, value: Any) -> Any:
    """An option as it was before it became JSON."""
    if name == "shapes":
        return {k: tuple(shape) for k, shape in value.items()}
    if name == "weights":
        return Path(value)
    return tuple(value) if name in ("mean", "std") else value
