"""A profile as a page: the layers, what each takes, and what widths cost."""

from collections.abc import Iterable, Sequence
from html import escape

from hwprune.report.page import bullets, page, section, table
from hwprune.report.plots import Share, Staircase, share_figure, staircase_figure, svg


def profile_html(
    title: str,
    setting: str,
    head: Sequence[str],
    layers: Iterable[Sequence[str]],
    shares: Sequence[Share],
    curves: Sequence[Staircase],
    warnings: Iterable[str] = (),
) -> str:
    """The whole page.

    Args:
        title: What was profiled, and where.
        setting: Device, runtime, threads and the like, in one line.
        head: Titles of the layer table's columns.
        layers: Its rows, as text.
        shares: One per layer, in any order.
        curves: Widths of the layers worth a look.
        warnings: What the reader should know first.
    """
    return page(
        title,
        escape(title),
        f"<p>{escape(setting)}</p>\n"
        + section("Warnings", bullets(warnings))
        + section("Where the time goes", svg(share_figure(shares)) if shares else "")
        + section("What widths cost", svg(staircase_figure(curves)) if curves else "")
        + section("Layers", table(head, layers)),
    )
