"""The rewrite stage: exact rewrites, each kept only where measured time says so."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs
import torch
from numpy.typing import NDArray

from hwprune.backend import Samples
from hwprune.errors import BackendError
from hwprune.frontend.arrays import inputs_of_graph, made_up
from hwprune.graph.channels import Coupling
from hwprune.graph.cost import node_macs
from hwprune.network.run import check_batches
from hwprune.network.twin import to_module
from hwprune.plan import Configuration
from hwprune.progress import Stage
from hwprune.report.schema import AppliedRewrite
from hwprune.rewrites.table import REWRITES, Rewrite, alike
from hwprune.stages.checkpoints import Checkpoints
from hwprune.stages.choice import Choice, remember, remembered
from hwprune.stages.sources import Job
from hwprune.stages.subject import Subject
from hwprune.stages.trial_plans import as_built, quantised_everywhere
from hwprune.units import format_count
from hwprune.verify.equality import ROUNDING, difference

_SECONDS, _PROCESSES = 0.5, 3  # for both graphs in both precisions, per process
_PERCENTILE = 20  # low ones hold where neighbours come and go
_NOISE = 0.01  # two graphs alike may differ by so much in every process
_ROUNDS = 4  # of processes, as long as these do not agree
_MOST = 2 / 3  # of many processes, which need not agree
_SAMPLES = 4  # whose answers are compared, times the batch


@dataclass(frozen=True, slots=True)
class Gain:
    """Two graphs timed in turns in one precision: ratios by process, and what the first takes."""

    ratios: tuple[float, ...]
    before_ns: float

    @property
    def ratio(self) -> float:
        """Of the second to the first, median over processes."""
        return float(np.median(self.ratios))

    @property
    def faster(self) -> bool:
        """Whether the second one is, and by more than noise where processes do not agree."""
        small = len(self.ratios) > _PROCESSES and self.ratio > 1 - _NOISE
        return not small and self._told(np.array(self.ratios) < 1)

    @property
    def slower(self) -> bool:
        """Whether it is slower by more than noise."""
        return self._told(np.array(self.ratios) > 1 + _NOISE)

    @property
    def doubtful(self) -> bool:
        """Whether the second one looks faster, and not to every process."""
        return self.ratio < 1 <= max(self.ratios)

    def _told(self, found: NDArray[np.bool_]) -> bool:
        """Whether every process says so, or most of many."""
        return bool(found.mean() >= (_MOST if len(found) > _PROCESSES else 1))

    def joined(self, other: "Gain") -> "Gain":
        """What the processes of both say."""
        return Gain((*self.ratios, *other.ratios), min(self.before_ns, other.before_ns))


def rewrite(job: Job, checkpoints: Checkpoints, stage: Stage) -> Job:
    """The job with the graph that the target executes fastest; a resumed run takes the same."""
    kept = checkpoints.take("rewrite")
    choice = choose(job.subject, stage) if kept is None else Choice.of(kept)
    checkpoints.keep("rewrite", choice.document())
    return rewritten_job(job, choice)


def rewritten_job(job: Job, choice: Choice) -> Job:
    """The job with the rewrites of a choice carried out."""
    subject = choice.carried_out(job.subject)
    return replace(job, graph=subject.graph, coupling=subject.coupling, choice=choice)


def choose(subject: Subject, stage: Stage) -> Choice:
    """Tries the rewrites one after the other, each on what the ones before it left.

    What was chosen before for this network on this target holds: times are never the same twice.
    """
    if (known := remembered(subject)) is not None:
        return known
    applied, notes = list[AppliedRewrite](), list[str]()
    for number, candidate in enumerate(REWRITES):
        graph = candidate.apply(subject.graph)
        if alike(subject.graph, graph):
            continue
        stage.update(number / len(REWRITES), f"{candidate.name}: {candidate.what}")
        new = subject.with_graph(graph)
        found, why = _judged(subject, new, candidate)
        notes += why
        if found is not None:
            subject = new
            applied.append(AppliedRewrite(candidate.name, candidate.what, found.ratio))
    choice = Choice(tuple(applied), tuple(notes))
    remember(subject, choice)
    return choice


def _judged(before: Subject, after: Subject, candidate: Rewrite) -> tuple[Gain | None, list[str]]:
    """The times that speak for a rewrite; else None, and what people should know."""
    if (why := _objection(before, after)) is not None:
        return None, [f"the rewrite {candidate.name} was left out: {why}"]
    try:
        timed = in_turns(before, after)
        for _ in range(_ROUNDS - 1):
            if not deployed(timed).doubtful:
                break
            again = in_turns(before, after)
            timed = {form: gain.joined(again[form]) for form, gain in timed.items()}
    except BackendError as error:
        return None, [f"the rewrite {candidate.name} was left out: {error}"]
    return (deployed(timed) if is_worth_it(timed) else None), []


def _objection(before: Subject, after: Subject) -> str | None:
    """What speaks against a rewrite before any time is measured."""
    inputs, batch = inputs_of_graph(before.graph), int(before.graph.inputs[0].shape[0])
    made = made_up(inputs, _SAMPLES * batch, before.seed)
    x = made.inputs(slice(0, len(made)))
    try:
        apart = difference(before.graph, after.graph, x)
        check_batches(to_module(after.graph), tuple(map(torch.from_numpy, x)), batch)
    except Exception as error:  # whatever onnxruntime or torch raises, the graph does not run
        return f"it does not run: {(str(error).splitlines() or [''])[0]}"
    if not apart <= ROUNDING:
        return f"outputs differ by {apart:.2g} of their magnitude"
    least, most = (bound_macs(s.graph, s.coupling) for s in (before, after))
    if most > least:
        return f"{format_count(most)} MACs could not be pruned, {format_count(least)} without it"
    return None


def bound_macs(graph: gs.Graph, coupling: Coupling) -> int:
    """Multiply-accumulates of layers that make, filter and read no channel that can go."""
    free = {n for g in coupling.prunable for n in (*g.producers, *g.consumers)}
    weights = {member.tensor for g in coupling.prunable for member in g.members}
    free |= {n.name for n in graph.nodes if any(t.name in weights for t in n.inputs)}
    return sum(node_macs(node) for node in graph.nodes if node.name not in free)


def in_turns(
    before: Subject, after: Subject, seconds: float = _SECONDS, processes: int = _PROCESSES
) -> dict[str, Gain]:
    """Both graphs in fp32 and, where the target computes on integers, with all in int8 that can
    be: what a search deploys lies between the two. Raises BackendError.
    """
    forms = {"fp32": [_written(s, Configuration()) for s in (before, after)]}
    plans = [quantised_everywhere(s.network()) for s in (before, after)]
    if all(plan.kernels for plan in plans):
        pairs = zip((before, after), plans, strict=True)
        forms["int8"] = [_written(s, plan) for s, plan in pairs]
    files = [content for pair in forms.values() for content in pair]
    with tempfile.TemporaryDirectory(prefix="hwprune-") as folder:
        paths = [Path(folder) / f"{number}.onnx" for number in range(len(files))]
        for path, content in zip(paths, files, strict=True):
            path.write_bytes(content)
        samples = before.backend.time_models(paths, before.threads, seconds, processes)
    return {form: _compared(*samples[2 * i : 2 * i + 2]) for i, form in enumerate(forms)}


def deployed(timed: Mapping[str, Gain]) -> Gain:
    """The times in the precision that is the faster one."""
    return min(timed.values(), key=lambda found: found.before_ns)


def is_worth_it(timed: Mapping[str, Gain]) -> bool:
    """Whether it is faster in the precision that is the faster one, and slower in none."""
    return deployed(timed).faster and not any(found.slower for found in timed.values())


def _written(subject: Subject, c: Configuration) -> bytes:
    model = as_built(subject.graph, subject.network(), c, subject.capabilities)
    return bytes(model.SerializeToString())


def _compared(before: Samples, after: Samples) -> Gain:
    first, second = (
        [float(np.percentile(runs, _PERCENTILE)) for runs in samples.runs_ns]
        for samples in (before, after)
    )
    ratios = tuple(b / a for a, b in zip(first, second, strict=True))
    return Gain(ratios, float(np.median(first)))
