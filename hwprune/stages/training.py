"""The training that the options ask for: how long each part of it is, and whether it fits."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import get_type_hints

from hwprune.errors import UsageError
from hwprune.frontend.dataset import DataSet
from hwprune.graph.channels import Coupling
from hwprune.plan import Plan
from hwprune.registry import TRAINED, unknown
from hwprune.schedules.catalogue import schedule_of
from hwprune.schedules.schedule import Schedule
from hwprune.schedules.shrink import foreseen
from hwprune.stages.options import CompileOptions
from hwprune.store.rundir import digest
from hwprune.train.recipe import Recipe
from hwprune.train.snapshots import Snapshots

_DECIDED = ("epochs", "minutes", "keeps_best")  # by options of their own, or by the stage


@dataclass(frozen=True, slots=True)
class Training:
    """What is trained, in this order: a search that trains, a schedule that cuts and recovery, and
    quantisation-aware training. Each of the three has the recipe's time.
    """

    schedule: Schedule | None
    recipe: Recipe  # of schedule and recovery together
    folder: Path | None = None

    @property
    def recovery(self) -> Recipe:
        """What the schedule leaves of the recipe."""
        return self.recipe.part(1 - self.schedule.share) if self.schedule else self.recipe

    def snapshots(self, stage: str, plan: Plan) -> Snapshots | None:
        """Where a stage's training is kept."""
        return None if self.folder is None else snapshots(self.folder, stage, plan.to_json())


def snapshots(folder: Path, stage: str, *inputs: object) -> Snapshots:
    """Where the training of a stage is kept in a run's folder, with all that it is made from beside
    the run's own inputs.
    """
    return Snapshots(folder / f"{stage}.safetensors", digest(stage, *inputs))


def training_of(options: CompileOptions, folder: Path | None = None) -> Training | None:
    """The training; None where there is none. `folder`: of the run. Raises UsageError."""
    if not options.trains:
        return None
    given = {name.replace("-", "_"): value for name, value in options.recipe.items()}
    settings = {name: _value(name, value) for name, value in given.items()}
    parts = 3 if options.search in TRAINED else 2
    minutes = None if options.train_minutes is None else options.train_minutes / parts
    recipe = Recipe(options.training_epochs, **settings)  # type: ignore[arg-type]
    return Training(schedule_of(options.schedule), replace(recipe, minutes=minutes), folder)


def check_training(options: CompileOptions, coupling: Coupling, data: DataSet) -> None:
    """Raises UsageError, before anything else is done, for a training that can be no good."""
    training = training_of(options)
    if training is None:
        return
    training.recipe.check(data.labelled)
    if training.schedule is not None and training.recipe.minutes is None:
        half = {group.name: group.width // 2 for group in coupling.prunable}  # nobody knows yet
        foreseen(training.schedule, half, coupling, data, training.recipe)


def recipe_settings() -> Mapping[str, type]:
    """Names and types of what `--recipe` may set."""
    hints = get_type_hints(Recipe)
    return {f.name: hints[f.name] for f in fields(Recipe) if f.name not in _DECIDED}


def _value(name: str, text: str) -> object:
    known = recipe_settings()
    if name not in known:
        raise unknown("setting of a recipe", name, [k.replace("_", "-") for k in known])
    if known[name] is bool:
        if text not in ("on", "off"):
            raise UsageError(f"--recipe {name}={text}", "write on or off")
        return text == "on"
    try:
        return known[name](text)
    except ValueError as e:
        raise UsageError(f"--recipe {name}={text}", "give a number") from e
