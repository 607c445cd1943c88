"""A profile as a page: whole, self-contained, and safe with hostile names."""

import xml.etree.ElementTree as ET
from collections.abc import Sequence

from hwprune.report.plots import Share, Staircase
from hwprune.report.profile_html import profile_html

CURVE = Staircase("conv1", "channels out", (1, 2), {1: 1e3}, (1e3, 1e3), (9e2, 9e2), (2e3, 2e3))


def written(name: str, curves: Sequence[Staircase] = (CURVE,)) -> str:
    return profile_html(
        f"{name} on cpu",
        f"Some <CPU>, {name}",
        ("layer", "kernel", "time"),
        [(name, "fp32", "812 us"), ("fc", "int8", "10 us")],
        [Share(name, "fp32", 8.12e5, 0.99), Share("fc", "int8", 1e4, 0.01)],
        curves,
        [f"{name} was not measured"],
    )


def parsed(page: str) -> ET.Element:
    """What is between the title and the end, as a tree: what is opened is closed."""
    return ET.fromstring(f"<body>{page[page.index('<h1>') : page.index('</html>')]}</body>")


def test_the_page_holds_the_table_and_both_plots() -> None:
    page = parsed(written("conv1"))
    assert len(page.findall("{http://www.w3.org/2000/svg}svg")) == 2
    titles = [h.text for h in page.iter("h2")]
    assert titles == ["Warnings", "Where the time goes", "What widths cost", "Layers"]
    assert [cell.text for cell in page.iter("td")] == [
        "conv1", "fp32", "812 us", "fc", "int8", "10 us",
    ]  # fmt: skip


def test_without_curves_there_is_no_such_section() -> None:
    assert "What widths cost" not in [h.text for h in parsed(written("x", ())).iter("h2")]


def test_nothing_from_the_model_becomes_markup() -> None:
    hostile = "<script>alert(1)</script><img src=x onload=y>"
    page = parsed(written(hostile))
    assert page.find("h1").text == f"{hostile} on cpu"  # type: ignore[union-attr]
    assert not {"script", "img", "link"} & {e.tag.rpartition("}")[2] for e in page.iter()}
    assert not any({"src", "onload"} & set(e.attrib) for e in page.iter())
