"""`channel-gate retier review`: a file of loans, reviewed dry."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from app.cli import build_app
from app.cli.loan_files import COLUMNS
from app.tiering.review_document import month_text
from tests.tiering.books import NOW, chance_book
from tests.tiering.test_review import REFERENCE, THETA


@pytest.fixture(scope="module")
def loans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    book = chance_book(np.random.default_rng(8), loans=24_000, theta=THETA, model=REFERENCE)
    file = tmp_path_factory.mktemp("loans") / "loans.csv"
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened)
        writer.writerow(COLUMNS)
        for unit, segment, funded, event in zip(
            book.unit, book.segment, book.funded_month, book.event_month, strict=True
        ):
            writer.writerow([f"c{unit:02d}", f"s{segment}", month_text(int(funded)), int(event) or "", "", 1_000])
    return file


def retier(*arguments: object) -> Result:
    return CliRunner().invoke(build_app(), ["retier", "review", *map(str, arguments)])


def test_the_bad_channel_of_a_file_is_found(loans: Path, tmp_path: Path) -> None:
    document, policy = tmp_path / "review.json", tmp_path / "policy.json"
    policy.write_text(json.dumps({"name": "bold", "loss_appetite": 0.3}), encoding="utf-8")
    run = retier("--loans", loans, "--policy", policy, "--document", document)
    assert run.exit_code == 0, run.output
    written = json.loads(document.read_text(encoding="utf-8"))
    kinds = {unit["unit"]: unit["verdict"]["kind"] for unit in written["units"]}
    assert kinds.pop("c00") == "demote"
    assert sum(kind == "demote" for kind in kinds.values()) <= 1
    assert written["as_of"] == month_text(NOW - 1)
    assert "demote" in run.output


def test_an_earlier_month_sees_only_what_was_known_then(loans: Path, tmp_path: Path) -> None:
    early, late = tmp_path / "early.json", tmp_path / "late.json"
    month = month_text(NOW - 10)
    assert retier("--loans", loans, "--as-of", month, "--document", early).exit_code == 0
    assert (
        retier(
            "--loans", loans, "--as-of", month, "--complete-through", month_text(NOW - 12), "--document", late
        ).exit_code
        == 0
    )
    seen, less = (json.loads(file.read_text(encoding="utf-8")) for file in (early, late))
    assert seen["stops"] == ["cold_start"]  # eight months of loans carry no reference
    on_time, behind = (each["units"][3]["beliefs"]["change_point"]["expected"] for each in (seen, less))
    assert behind < on_time
    assert less["units"][3]["feed_late_days"] == 60


def test_tiers_are_taken_from_a_file(loans: Path, tmp_path: Path) -> None:
    tiers, document = tmp_path / "tiers.csv", tmp_path / "review.json"
    tiers.write_text("channel,tier\nc00,prime\n", encoding="utf-8")
    assert retier("--loans", loans, "--tiers", tiers, "--document", document).exit_code == 0
    unit = json.loads(document.read_text(encoding="utf-8"))["units"][0]
    assert (unit["tier"], unit["verdict"]["kind"]) == ("prime", "demote")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("channel,segment\n", "there is no column amount_minor, event_month"),
        (f"{','.join(COLUMNS)}\n", "there is no loan"),
        (f"{','.join(COLUMNS)}\na,b,2026-13,,,1\n", "line 2: funded_month: '2026-13' is no month"),
        (f"{','.join(COLUMNS)}\na,b,2026-11,x,,1\n", "line 2: event_month must be a whole number"),
        (f"{','.join(COLUMNS)}\n,b,2026-11,,,1\n", "line 2: channel and segment must be given"),
        (f"{','.join(COLUMNS)}\na,b,2026-11,,,1\n", "events among them"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_by_its_line(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "loans.csv"
    file.write_text(text, encoding="utf-8")
    assert says in str(retier("--loans", file).exception)


def test_a_tier_that_there_is_not_and_a_month_ahead_are_refused(loans: Path, tmp_path: Path) -> None:
    tiers = tmp_path / "tiers.csv"
    tiers.write_text("channel,tier\nc00,gold\n", encoding="utf-8")
    assert "'gold' is none of prime" in str(retier("--loans", loans, "--tiers", tiers).exception)
    ahead = retier("--loans", loans, "--as-of", month_text(NOW - 5), "--complete-through", month_text(NOW))
    assert "ahead of it" in str(ahead.exception)
