"""Schedules by name, with what may be set of each."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial

from hwprune.errors import UsageError
from hwprune.registry import known_method
from hwprune.schedules.greg import GReg1, GReg2
from hwprune.schedules.increg import IncReg
from hwprune.schedules.orthoreg import OrthoReg
from hwprune.schedules.plain import Iterative
from hwprune.schedules.schedule import Schedule
from hwprune.schedules.soft import Soft

ONE_SHOT = "one-shot"  # needs no schedule: everything goes before the training
SCHEDULES: Mapping[str, Callable[..., Schedule]] = {
    "increg": IncReg,
    "greg1": GReg1,
    "greg2": GReg2,
    "sfp": partial(Soft, grows=False, alpha=0.0),
    "asfp": partial(Soft, grows=True, alpha=0.0),
    "srfp": partial(Soft, grows=False, alpha=1.0),
    "asrfp": partial(Soft, grows=True, alpha=1.0),
    "orthoreg": OrthoReg,
    "iterative": Iterative,
}


def schedule_of(text: str) -> Schedule | None:
    """What 'increg' or 'increg:ratio=200,share=0.6' asks for; None for one-shot.

    Raises UsageError for a name, a setting or a value that there is not.
    """
    name, _, rest = text.partition(":")
    known_method("schedule", name)
    given = dict(_setting(name, part) for part in rest.split(",")) if rest else {}
    if name == ONE_SHOT:
        if given:
            raise UsageError(f"schedule {name} has no setting {next(iter(given))!r}")
        return None
    share = given.pop("share", Schedule.share)
    if not 0 < share < 1:
        raise UsageError(f"schedule {name}: its share is {share:g}", "give one between 0 and 1")
    integers = bool(given.pop("integers", 0))
    schedule = SCHEDULES[name](**_fitting(name, given))
    schedule.share, schedule.integers = share, integers
    return schedule


def _setting(name: str, part: str) -> tuple[str, float]:
    key, _, value = part.partition("=")
    try:
        return key.strip(), float(value)
    except ValueError as e:
        raise UsageError(
            f"schedule {name}: {part!r} is no setting", f"write it as {name}:share=0.5"
        ) from e


def _fitting(name: str, given: Mapping[str, float]) -> dict[str, float | int]:
    """The settings as the schedule takes them; all of them are positive numbers."""
    found: dict[str, float | int] = {}
    parameters = inspect.signature(SCHEDULES[name]).parameters
    for key, value in given.items():
        if key not in parameters:
            known = ", ".join(sorted({*parameters, "share", "integers"}))
            raise UsageError(f"schedule {name} has no setting {key!r}", f"known: {known}")
        if value < 0 or (value == 0 and key != "alpha"):
            raise UsageError(f"schedule {name}: {key} is {value:g}", "give a positive number")
        whole = "int" in str(parameters[key].annotation)
        found[key] = int(value) if whole else value
    return found
