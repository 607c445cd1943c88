"""`hwprune pack`: the smallest .hwp file that holds what was asked for, and back again."""

from itertools import count
from pathlib import Path
from time import perf_counter

import torch

from hwprune.codec.allocation import relative_steps
from hwprune.codec.decoder import decode
from hwprune.codec.dials import DeadZone
from hwprune.codec.moments import moments
from hwprune.codec.packing import pack_exact
from hwprune.codec.probe import Probe
from hwprune.codec.rate import Dial, Packed, coarsest_within, finest_within
from hwprune.codec.skeleton import holes
from hwprune.codec.surp import Surp
from hwprune.codec.weights import weights
from hwprune.errors import HwpruneError, InfeasibleError
from hwprune.graph.safety import load_whole
from hwprune.progress import Progress, Silent
from hwprune.quantize.gptq import Inverse, inverse
from hwprune.report.packing import PackReport
from hwprune.report.schema import Change, Quality
from hwprune.stages.pack_options import EXACT, LOSSY, PackOptions
from hwprune.stages.pack_subject import Judge, Subject, subject
from hwprune.stages.quality import drop_points
from hwprune.store.files import write_atomic
from hwprune.units import format_bytes

_CALIBRATION, _PROBE = 256, 64  # samples: to round weights for, to measure their effect on
_DROP, _RATE = (
    0.3,
    4.0,
)  # points, bits: where a lossy codec is named and no bound, with and without data


def pack(
    model: Path, out: Path, options: PackOptions | None = None, progress: Progress | None = None
) -> PackReport:
    """Packs an ONNX file into `out`.

    Returns:
        What became of it; its verdict is "missed" where a bound holds on the search data, and not
        on the evaluation data.

    Raises:
        UsageError, ModelError, DataError: What was given cannot be used.
        InfeasibleError: A bound cannot be met; nothing is written.
        StoreError: The file cannot be written.
    """
    options, progress = options or PackOptions(), progress or Silent()
    options.check()
    start = perf_counter()
    with progress.stage("read"):
        data = load_whole(model, options.max_model_size)
    quality = None
    if options.chosen == EXACT:
        with progress.stage("code"):
            found = pack_exact(data)
    else:
        with progress.stage("data"):
            what = subject(data, options)
        found = _fitted(what, progress)
        with progress.stage("quality"):
            quality = what.quality(found.model)
    with progress.stage("check"):
        _check_decodes(found)
    write_atomic(out, found.file)
    return _report(model, data, options, found, quality, perf_counter() - start)


def _fitted(what: Subject, progress: Progress) -> Packed:
    """The best file within all bounds."""
    dial, options = _dial(what, progress), what.options
    most_drop, most_rate = options.max_drop, options.rate
    if (most_drop, most_rate, options.max_size) == (None, None, None):
        most_drop, most_rate = (_DROP, None) if what.known else (None, _RATE)
    if options.max_size is not None or most_rate is not None:
        found = _sized(dial, options.max_size, most_rate, progress)
        if most_drop is not None:
            _check_drop(what, found, most_drop)
        return found
    assert most_drop is not None
    return _as_good(what, dial, most_drop, progress)


def _dial(what: Subject, progress: Progress) -> Dial:
    """The codec, set up for the model."""
    found = weights(what.model, what.data, holes(what.data))
    with progress.stage("weights", total=len(found) + 1) as stage:
        ticks = count(1)

        def tick() -> None:
            stage.update(next(ticks))

        probe = Probe(what.model, found, what.samples(_CALIBRATION), what.options.threads)
        known = _inverses(probe, what.options) if what.options.chosen == LOSSY else {}
        tick()
        steps = relative_steps(found, probe.of(_PROBE), known, tick)
    if what.options.chosen == "surp":
        return Surp(what.data, found, scales=steps)
    return DeadZone(what.data, found, steps, known)


def _inverses(probe: Probe, options: PackOptions) -> dict[int, Inverse]:
    """What rounding for the output needs, by weight."""
    second = moments(probe, options.seed)
    return {index: inverse(torch.from_numpy(second.pop(index))) for index in list(second)}


def _sized(dial: Dial, max_size: int | None, rate: float | None, progress: Progress) -> Packed:
    """The finest file that is small enough. Raises InfeasibleError."""

    def fits(found: Packed) -> bool:
        return (max_size is None or len(found.file) <= max_size) and (
            rate is None or found.rate <= rate
        )

    with progress.stage("fit"):
        found, fitting = finest_within(dial, fits)
    if not fitting:
        size = f"{format_bytes(len(found.file))}, {found.rate:.2f} bits a weight"
        raise InfeasibleError(
            f"the coarsest file that this codec can write has {size}",
            "allow as much, or prune the network first: hwprune compile --max-size",
        )
    return found


def _as_good(what: Subject, dial: Dial, most: float, progress: Progress) -> Packed:
    """The coarsest file that loses no more. Raises InfeasibleError."""
    judge = Judge(what)
    with progress.stage("fit") as stage:

        def fits(found: Packed) -> bool:
            lost = judge.lost_points(found.model)
            stage.update(0, f"{format_bytes(len(found.file))}, {lost:.2f} points")
            return lost <= most

        found, fitting = coarsest_within(dial, fits)
    if not fitting:
        raise InfeasibleError(
            f"even the finest steps lose more than {most:g} points as far as "
            "these samples tell (a standard error is added)",
            "give more data, or allow a larger --max-drop",
        )
    return found


def _check_drop(what: Subject, found: Packed, most: float) -> None:
    lost = Judge(what).lost_points(found.model)
    if lost > most:
        raise InfeasibleError(
            f"the best file of {format_bytes(len(found.file))} loses {lost:.2f} points, "
            f"--max-drop allows {most:g}",
            "allow a larger file or a larger drop",
        )


def _check_decodes(found: Packed) -> None:
    """Nothing is written that does not come back."""
    if decode(found.file).model != found.model:
        raise HwpruneError(
            "the packed file does not decode to what was packed", "report this model"
        )


def _report(
    model: Path,
    data: bytes,
    options: PackOptions,
    found: Packed,
    quality: Quality | None,
    seconds: float,
) -> PackReport:
    drop = None if quality is None else drop_points(quality)
    missed = options.max_drop is not None and (drop is None or drop > options.max_drop)
    return PackReport(
        "missed" if missed else "met",
        str(model),
        options.chosen,
        Change(len(data), len(found.file)),
        found.elements,
        found.rate,
        quality,
        seconds,
    )
