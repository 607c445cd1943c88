"""The parts that every page is made of: one file, no scripts, nothing fetched, all escaped."""

from collections.abc import Iterable, Sequence
from html import escape

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse } td, th { padding: .2rem .8rem; text-align: right }
td:first-child, th:first-child { text-align: left } tr:nth-child(even) { background: #8881 }
td:not(:first-child) { white-space: nowrap }
.met { color: #18794e } .missed, .infeasible { color: #c62828 } .noisy { color: #b26a00 }
svg { max-width: 100%; height: auto }
.bar { display: inline-block; height: .7em; background: #4c78a8 }
"""


def page(title: str, heading: str, body: str) -> str:
    """A whole document; `heading` and `body` are HTML, `title` is text."""
    return (
        "<!doctype html>\n"
        f'<html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style>\n<h1>{heading}</h1>\n{body}</html>\n"
    )


def section(title: str, body: str) -> str:
    """A heading and what is below it; nothing if that is empty."""
    return f"<h2>{escape(title)}</h2>\n{body}\n" if body else ""


def bullets(items: Iterable[str]) -> str:
    """An escaped list; nothing if there are no items."""
    entries = "".join(f"<li>{escape(item)}</li>" for item in items)
    return f"<ul>{entries}</ul>" if entries else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]], extra: Sequence[str] = ()) -> str:
    """An escaped table; `extra` holds one ready-made last cell per row."""
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    lines = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    if extra:
        lines = [line + cell for line, cell in zip(lines, extra, strict=True)]
    return f"<table><tr>{titles}</tr>\n" + "\n".join(f"<tr>{x}</tr>" for x in lines) + "</table>\n"
