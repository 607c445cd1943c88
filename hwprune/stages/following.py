"""One compile on several processes: the first does everything, the others train along.

What is measured and searched for is one process's business. When it comes to a training, it tells
the others the plan; each then builds the same network and takes its share of every batch.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from hwprune.plan import Plan
from hwprune.progress import Silent
from hwprune.pruning.reconstruct import LIGHT
from hwprune.stages.building import build
from hwprune.stages.choice import Choice
from hwprune.stages.options import CompileOptions
from hwprune.stages.rewriting import rewritten_job
from hwprune.stages.sources import Job, load_job
from hwprune.train.distributed import begin, receive, send, together

_OVER = "over"


@contextmanager
def leading(job: Job, plan: Plan) -> Iterator[None]:
    """Within it the first process builds a plan that the others are told to build, too."""
    if begin()[1] == 1 or not job.options.trains:
        yield
        return
    send(json.dumps({"plan": plan.to_json(), "rewrites": job.choice.document()}))
    with together():
        yield


def dismiss() -> None:
    """There is nothing left to train."""
    if begin()[1] > 1:
        send(_OVER)


def follow(options: CompileOptions) -> None:
    """Trains along until the first process is done. Raises what reading the inputs raises."""
    job = load_job(options)
    while (text := receive()) != _OVER:
        told = json.loads(text)
        with together():
            rewritten = rewritten_job(job, Choice.of(told["rewrites"]))
            build(rewritten, Plan.from_json(told["plan"]), Silent(), LIGHT)
