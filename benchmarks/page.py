"""`python -m benchmarks.page RESULT.json`: a run of `bin/bench` becomes docs/performance.md.

The JSON is kept beside the page, the pictures are drawn, and what stands between the marks of the
page and of the README is written anew, so that no figure is typed by hand.
"""

from __future__ import annotations

import json
import sys
from itertools import groupby
from pathlib import Path

from benchmarks.report import Document, machine_lines, markdown, tables
from benchmarks.summary import summary

ROOT = Path(__file__).parent.parent
README, PAGE = ROOT / "README.md", ROOT / "docs/performance.md"
KEPT, PICTURES = ROOT / "docs/performance.json", ROOT / "docs/performance"
BEGIN, END = "<!-- figures: python -m benchmarks.page -->\n", "<!-- end of figures -->"


def filled(text: str, figures: str) -> str:
    """The text with these figures. Raises ValueError if its marks are gone."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"there are no {BEGIN.strip()} and {END}")
    return f"{before}{BEGIN}\n{figures}\n\n{END}{after}"


def texts(document: Document) -> dict[Path, str]:
    """What the README and the page are to say."""
    figures = {README: summary_figures(document), PAGE: page_figures(document)}
    return {path: filled(path.read_text(), text) for path, text in figures.items()}


def picture_of(quantity: str) -> str:
    """The file's name without its suffix, of a table whose first quantity this is."""
    return quantity.replace(".", "-")


def publish(result: Path) -> None:
    """Writes all of it."""
    from benchmarks.plots import draw

    document = json.loads(result.read_text())
    written = texts(document)
    for old in PICTURES.glob("*.svg"):
        old.unlink()
    draw(document, PICTURES)
    KEPT.write_text(json.dumps(document, indent=1) + "\n")
    for path, text in written.items():
        path.write_text(text)


def summary_figures(document: Document) -> str:
    """For the README."""
    around = document["surroundings"]
    told = "; ".join(around[name] for name in ("machine", "system", "server", "packages", "date"))
    return "\n".join([f"{told}. Others {around['others']}.", "", *markdown(summary(document))])


def page_figures(document: Document) -> str:
    """What is claimed first, then a table and a picture for each thing measured."""
    *measured, claims = tables(document)
    firsts = [
        str(next(group)["name"])
        for _, group in groupby(document["measured"], key=lambda one: str(one["title"]))
    ]
    parts = [*machine_lines(document), "", "### What is claimed", "", *markdown(claims)]
    for first, table in zip(firsts, measured, strict=True):
        title, picture = table[0][0], f"{PICTURES.name}/{picture_of(first)}.svg"
        parts += ["", f"### {title[:1].upper()}{title[1:]}", ""]
        parts += [f"![{title}]({picture})", "", *markdown([("", *table[0][1:]), *table[1:]])]
    return "\n".join(parts)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m benchmarks.page RESULT.json")
    publish(Path(sys.argv[1]))
