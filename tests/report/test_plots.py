"""Plots: what they show, that hostile names harm nobody, and that files are whole."""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from hwprune.errors import StoreError
from hwprune.report.plots import (
    Share,
    Staircase,
    png,
    share_figure,
    shortened,
    staircase_figure,
    svg,
    trials_figure,
    write_png,
)

HOSTILE = "$\\frac{x <script>alert('&')</script>\x00\n層"
SVG = "{http://www.w3.org/2000/svg}"


def staircase(title: str = "conv1 fp32", counts: Sequence[int] = range(1, 33)) -> Staircase:
    """Blocks of 16; every third count was measured."""
    times = [1e4 * -(-c // 16) for c in counts]
    measured = dict(list(zip(counts, times, strict=True))[::3])
    low, high = [t * 0.9 for t in times], [t * 1.1 for t in times]
    return Staircase(title, "channels out", counts, measured, times, low, high, (16,))


def shares(count: int) -> list[Share]:
    """Cheapest first, kernels in turns."""
    total = sum(range(1, count + 1))
    return [
        Share(f"layer{i}", ("fp32", "int8")[i % 2], 1e3 * i, i / total) for i in range(1, count + 1)
    ]


def labels(figure: Figure) -> list[str]:
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def legend(figure: Figure) -> set[str]:
    return {text.get_text() for text in figure.legends[0].get_texts()}


def words(figure: Figure) -> str:
    return " ".join(text.text or "" for text in ET.fromstring(svg(figure)).iter(f"{SVG}text"))


def test_a_staircase_shows_points_prediction_interval_and_steps() -> None:
    figure = staircase_figure([staircase()])
    assert legend(figure) == {"measured", "predicted", "interval", "step"}
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    assert list(lines["measured"].get_xdata()) == list(range(1, 33, 3))
    assert list(lines["predicted"].get_ydata()) == [10.0] * 16 + [20.0] * 16
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("channels out", "us")


def test_each_layer_has_axes_of_its_own_and_the_rest_of_the_grid_is_empty() -> None:
    figure = staircase_figure([staircase(f"conv{i}") for i in range(5)])
    assert [a.axison for a in figure.axes] == [True] * 5 + [False]
    assert [a.get_title(loc="left") for a in figure.axes[:5]] == [f"conv{i}" for i in range(5)]


def test_milliseconds_where_they_are_meant() -> None:
    slow = Staircase("conv", "channels in", (8,), {8: 2.1e6}, (2e6,), (1.9e6,), (2.2e6,))
    figure = staircase_figure([slow])
    assert figure.axes[0].get_ylabel() == "ms"
    assert "step" not in legend(figure)


def test_bars_are_sorted_and_coloured_by_kernel() -> None:
    figure = share_figure(shares(4))
    assert labels(figure) == ["layer4", "layer3", "layer2", "layer1"]
    assert legend(figure) == {"fp32", "int8"}
    by_kernel = {c.get_label(): c.patches[0].get_facecolor() for c in figure.axes[0].containers}
    assert by_kernel["fp32"] != by_kernel["int8"]
    assert "4 us, 40.0%" in words(figure)


def test_dozens_of_layers_are_summed_up() -> None:
    everything = shares(80)
    figure = share_figure(everything)
    assert len(labels(figure)) == 31
    assert labels(figure)[-1] == "50 others"
    drawn = [p.get_width() for c in figure.axes[0].containers for p in c.patches]
    assert sum(drawn) == pytest.approx(100)
    assert legend(figure) == {"fp32", "int8"}


def test_nothing_to_show_is_no_error() -> None:
    assert png(share_figure([]))
    assert png(staircase_figure([]))


@pytest.mark.filterwarnings("error")
def test_hostile_names_are_text() -> None:
    for figure in (
        share_figure([Share(HOSTILE, HOSTILE, 1e3, 1.0)]),
        staircase_figure([staircase(HOSTILE)]),
    ):
        assert png(figure).startswith(b"\x89PNG")
        inline = svg(figure)
        assert "<script>" not in inline
        assert "$\\frac{x <script>" in words(figure)


def test_an_inline_plot_is_an_element_that_fetches_nothing() -> None:
    root = ET.fromstring(svg(staircase_figure([staircase()])))
    assert root.tag == f"{SVG}svg"
    links = [v for e in root.iter() for k, v in e.attrib.items() if k.endswith(("href", "src"))]
    assert links
    assert all(link.startswith("#") for link in links)


def test_equal_plots_are_equal_files() -> None:
    one, other = (staircase_figure([staircase()]) for _ in range(2))
    assert svg(one) == svg(other)
    assert png(one) == png(other)


def test_a_file_is_written_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    write_png(share_figure(shares(2)), tmp_path / "shares.png")
    assert [p.name for p in tmp_path.iterdir()] == ["shares.png"]
    with pytest.raises(StoreError, match="absent"):
        write_png(share_figure(shares(2)), tmp_path / "absent" / "shares.png")


def test_long_names_keep_their_ends() -> None:
    assert shortened("conv1", 20) == "conv1"
    short = shortened("features.denseblock3.denselayer12.conv2", 20)
    assert (len(short), short[:5], short[-12:]) == (20, "featu", "ayer12.conv2")
    assert shortened("a\nb\x00", 20) == "a?b?"


def test_a_search_is_shown_with_the_front_of_its_candidates() -> None:
    figure = trials_figure((0.5, 0.3), (9.0, 8.0, 9.5, 8.5), (0.2, 0.5, 0.3, 0.4))
    left, right = figure.axes
    assert list(left.lines[0].get_ydata()) == [0.5, 0.3]
    everything, front = right.lines
    assert len(everything.get_xdata()) == 4
    assert list(zip(front.get_xdata(), front.get_ydata(), strict=True)) == [
        (8.0, 0.5),
        (8.5, 0.4),
        (9.0, 0.2),
    ]
