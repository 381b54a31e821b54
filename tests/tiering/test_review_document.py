"""A review as a document."""

from __future__ import annotations

import json

import pytest

from app.tiering.loans import month_number
from app.tiering.policy import DEFAULT
from app.tiering.policy_document import read_policy
from app.tiering.review_document import month_text, review_document
from tests.tiering.books import standing
from tests.tiering.test_review import run

UNITS = [f"c{number}" for number in range(20)]


def test_the_document_has_every_figure_and_is_the_same_twice() -> None:
    one, other = (review_document(run(), UNITS, [standing()] * 20, DEFAULT) for _ in range(2))
    assert json.dumps(one, allow_nan=False) == json.dumps(other, allow_nan=False)
    assert read_policy(one["policy"]) == DEFAULT
    bad = one["units"][0]
    assert bad["verdict"]["kind"] == "demote"
    assert bad["beliefs"]["change_point"]["lo90"] < bad["beliefs"]["change_point"]["mean"]
    assert bad["explanation"][-1].startswith("It moves from general to risk")


def test_each_unit_that_was_reviewed_must_be_named() -> None:
    with pytest.raises(ValueError, match="longer"):
        review_document(run(), UNITS[:3], [standing()] * 20, DEFAULT)


@pytest.mark.parametrize(
    ("year", "month", "text"), [(2026, 11, "2026-11"), (2026, 1, "2026-01"), (2025, 12, "2025-12")]
)
def test_a_month_is_written_as_it_is_read(year: int, month: int, text: str) -> None:
    assert month_text(month_number(year, month)) == text
