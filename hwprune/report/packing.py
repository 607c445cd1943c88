"""What became of a packed model."""

from dataclasses import dataclass

from hwprune.report import jsonio
from hwprune.report.schema import EXIT_CODES, Change, Quality, Verdict
from hwprune.units import format_bytes


@dataclass(frozen=True, slots=True)
class PackReport:
    """The evidence of `hwprune pack`.

    `bits_per_weight` is the whole file over all numbers in the model's tensors; `quality` is None
    where nothing was lost.
    """

    verdict: Verdict
    source: str
    codec: str
    size_bytes: Change
    parameters: int
    bits_per_weight: float
    quality: Quality | None
    seconds: float
    warnings: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """Of the process."""
        return EXIT_CODES[self.verdict]

    def to_json(self) -> str:
        """As JSON."""
        return jsonio.to_json(self)


def packing_lines(report: PackReport) -> list[str]:
    """For people."""
    before, after = report.size_bytes.original, report.size_bytes.compiled
    size = (
        f"{report.verdict}: {format_bytes(before)} -> {format_bytes(after)} "
        f"({after / before:.1%}), {report.bits_per_weight:.2f} bits a weight, {report.codec}"
    )
    return [size, quality_line(report.quality), *(f"warning: {text}" for text in report.warnings)]


def quality_line(quality: Quality | None) -> str:
    """What was lost."""
    if quality is None:
        return "quality: the same to the last bit"
    if quality.metric == "unknown":
        return "quality: not known, as there are no data"
    if quality.original is None or quality.compiled is None:
        return f"quality: {quality.compiled:.1f} dB above the noise ({quality.samples} samples)"
    lost = 100 * (quality.original - quality.compiled)
    return (
        f"quality: {quality.metric} {quality.original:.2%} -> {quality.compiled:.2%} "
        f"({-lost:+.2f} points, {quality.samples} samples)"
    )
