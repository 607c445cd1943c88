"""`report.html`: complete, self-contained, and safe with hostile names."""

import dataclasses
from html.parser import HTMLParser

from hwprune.report import Report, write_html

VOID = {"meta", "br"}


class Page(HTMLParser):
    """Collects tags and text, and checks that what is opened is closed."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID and not (self.get_starttag_text() or "").endswith("/>"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_is_well_formed_and_complete(report: Report) -> None:
    page = Page(write_html(report))
    assert page.open == []
    for figure in (
        "met: 9.6 ms of 10 ms",
        "0.27x",
        "<fc>",
        "64x64 -> 48x40",
        "no <governor> access",
        "Some <CPU>, onnxruntime 1.31.1, 1 thread, batch 1, arena off, graph all; from bundled",
    ):
        assert figure in page.text
    assert sum(tag == "tr" for tag, _ in page.tags) == 1 + 8 + 1 + 3 + 2 + 1 + 2
    assert any(tag == "svg" for tag, _ in page.tags)
    assert {"least loss so far, nats", "predicted time, ms"} <= set(page.text)


def test_nothing_is_fetched_and_nothing_runs(report: Report) -> None:
    hostile = dataclasses.replace(
        report.model, name="<script>alert(1)</script>", source="<img src=x>"
    )
    page = Page(write_html(dataclasses.replace(report, model=hostile)))
    assert not {"script", "img", "link", "iframe"} & {tag for tag, _ in page.tags}
    assert not any({"src", "href", "onload"} & set(attributes) for _, attributes in page.tags)


def test_a_bare_report_makes_a_page_too(report: Report) -> None:
    bare = dataclasses.replace(report, layers=(), frozen=(), stages=(), warnings=())
    assert Page(write_html(bare)).open == []
