"""README and docs/performance.md show what docs/performance.json has, and nothing typed by hand."""

import json

import pytest

from benchmarks.groups import GROUPS
from benchmarks.labels import RESQUE, SIDEKIQ
from benchmarks.page import BEGIN, END, KEPT, PICTURES, filled, picture_of, texts
from benchmarks.report import Document
from benchmarks.results import Bound, Flat, Quantity, Ratio, Results


@pytest.fixture(scope="module")
def kept() -> Document:
    document: Document = json.loads(KEPT.read_text())
    return document


def test_readme_and_page_show_the_figures_of_the_json(kept: Document) -> None:
    for path, text in texts(kept).items():
        assert path.read_text() == text, "run: python -m benchmarks.page docs/performance.json"


def test_each_picture_of_the_page_is_there(kept: Document) -> None:
    first_of = {one["title"]: one["name"] for one in reversed(kept["measured"])}
    for name in first_of.values():
        assert (PICTURES / f"{picture_of(name)}.svg").is_file()


def test_figures_stand_between_marks_and_need_them() -> None:
    assert filled(f"a\n{BEGIN}old\n{END}\nb", "new") == f"a\n{BEGIN}\nnew\n\n{END}\nb"
    with pytest.raises(ValueError, match="figures"):
        filled("a page", "new")


def test_each_claim_is_of_something_that_its_group_measures(kept: Document) -> None:
    rows = {one["name"]: one["rows"] for one in kept["measured"]}
    for group in GROUPS:
        names = {quantity.name for quantity in group.quantities}
        for claim in group.claims:
            assert claim.quantity in names, claim.text
            if isinstance(claim, Ratio | Bound):
                assert claim.row in rows[claim.quantity], claim.text
            if isinstance(claim, Ratio) and not set(claim.others) <= {RESQUE, SIDEKIQ}:
                assert set(claim.others) & set(rows[claim.quantity]), claim.text


def test_claims_divide_within_a_round_and_take_the_best_peer() -> None:
    results = Results()
    for ours, slow, fast in ((8, 1, 2), (9, 1, 3), (2, 1, 1)):
        for row, figure in (("we", ours), ("slow", slow), ("fast", fast)):
            results.add("rate", row, float(figure))
    quantity = Quantity("rate", "rates", "jobs/s")
    ratio = Ratio("we / best", quantity.name, "we", ("slow", "fast"), 3).claim(results.figures)
    assert ratio.text == "we / best (fast)"
    assert (ratio.measured, ratio.spread, ratio.is_kept) == (3.0, (2.0, 4.0), True)
    missing = Ratio("we / none", "rate", "we", ("none",), 3).claim(results.figures)
    assert (missing.measured, missing.is_kept) == (None, None)
    bound = Bound("ours", "rate", "we", 7, "jobs/s").claim(results.figures)
    assert (bound.measured, bound.is_kept) == (8.0, False)


def test_what_is_flat_may_rise_and_not_fall() -> None:
    figures = {"rate": {"1": [50.0], "2": [100.0], "4": [120.0], "8": [90.0]}}
    flat = Flat("flat", "rate", 1.3, first="2").claim(figures)
    assert flat.measured == pytest.approx(4 / 3)
    assert not flat.is_kept
