"""`hwprune pack`: the smallest file that holds what was asked for."""

from dataclasses import replace
from pathlib import Path
from time import perf_counter

import onnx

from hwprune.codec.packing import pack_exact
from hwprune.codec.rate import Packed
from hwprune.codec.skeleton import elements, holes
from hwprune.errors import HwpruneError
from hwprune.export.compact import compact
from hwprune.graph.safety import load_whole
from hwprune.progress import Progress, Silent
from hwprune.report.packing import PackReport
from hwprune.report.schema import Change, Quality
from hwprune.stages.pack_bounds import fitted
from hwprune.stages.pack_dials import dial_of
from hwprune.stages.pack_options import EXACT, PackOptions
from hwprune.stages.pack_subject import subject
from hwprune.stages.quality import drop_points
from hwprune.store.files import write_atomic


def pack(
    model: Path, out: Path, options: PackOptions | None = None, progress: Progress | None = None
) -> PackReport:
    """Packs an ONNX file into `out`; where that is an .onnx file, no decoder is needed for it.

    Returns:
        What became of it; its verdict is "missed" where a bound holds on the search data, and not
        on the evaluation data.

    Raises:
        UsageError, ModelError, DataError: What was given cannot be used.
        InfeasibleError: A bound cannot be met; nothing is written.
        StoreError: The file cannot be written.
    """
    options = replace(options or PackOptions(), plain=out.suffix == ".onnx")
    progress = progress or Silent()
    options.check()
    start = perf_counter()
    with progress.stage("read"):
        data = load_whole(model, options.max_model_size)
    if options.chosen == EXACT:
        with progress.stage("code"):
            found, quality = _exact(data, options.plain), None
    else:
        with progress.stage("data"):
            what = subject(data, options)
        found = fitted(what, dial_of(what, progress), progress)
        with progress.stage("quality"):
            quality = what.quality(found.model)
    if quality is None:  # else what was judged had been decoded
        with progress.stage("check"):
            _check_decodes(found, data)
    write_atomic(out, found.file)
    return _report(model, data, options, found, quality, perf_counter() - start)


def _exact(data: bytes, plain: bool) -> Packed:
    """Nothing is lost."""
    if not plain:
        return pack_exact(data)
    file = compact(onnx.load_from_string(data)).SerializeToString()
    return Packed(file, elements(holes(data)), plain=True)


def _check_decodes(found: Packed, data: bytes) -> None:
    """Nothing is written that does not come back."""
    if not found.plain and found.model != data:
        raise HwpruneError("the file does not decode to what was packed", "report this model")


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
