"""Files of outcomes and of the book from before: loaded once, whatever happens to the load."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from typer.testing import CliRunner

from app.cli import build_app
from app.cli.errors import CommandError
from app.cli.importing import outcomes as importing
from app.cli.importing.staging import LoadLedger
from app.db.engine import make_engine
from app.retention.erase import LawBasis, erase_person
from tests.outcomes.conftest import Desk
from tests.retention.decision_log import CHANGE, PERIODS
from tests.support.cluster import Database, in_thread

Import = Callable[..., dict[str, Any]]


@pytest.fixture
def bring(seeded_database: Database) -> Import:
    """Runs `channel-gate import ...` in a thread; the result that it prints."""

    def run(*arguments: object) -> dict[str, Any]:
        command = ["import", *map(str, arguments), "--json", "--actor", "test"]
        done = in_thread(lambda: CliRunner().invoke(build_app(), command, env=seeded_database.environment()))
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return run


def lines(count: int) -> list[str]:
    """Ten facts of each of some applications."""
    events = []
    for number in range(count):
        name = f"A-{number}"
        events.append({"application_id": name, "kind": "funded", "occurred_on": "2026-01-10", "amount": 1_000_000})
        events += [
            {"application_id": name, "kind": "performance", "month_on_book": month, "days_past_due": number % 3 * month}
            for month in range(1, 9)
        ]
        events.append({"application_id": name, "kind": "paid_off", "occurred_on": "2026-11-01"})
    return [json.dumps(event) for event in events]


async def test_a_file_is_loaded_once_and_bad_rows_say_why(desk: Desk, bring: Import, tmp_path: Path) -> None:
    await desk.decide("A-0")
    file = tmp_path / "events.ndjson"
    bad = ['{"application_id": "A-1", "kind": "funded", "occurred_on": "2026-01-10"}', "not json"]
    file.write_text("\n".join([*lines(20), *bad]) + "\n", encoding="utf-8")
    first = bring("outcomes", file, "--originator", "demo-origination")
    assert (first["rows"], first["staged"], first["new"], first["repeated"]) == (202, 200, 200, 0)
    refused = [json.loads(line) for line in (tmp_path / "events.ndjson.rejects.ndjson").read_text().splitlines()]
    assert [(each["row"], each["problems"][0]["pointer"]) for each in refused] == [(201, "/amount"), (202, "/")]
    again = bring("outcomes", file, "--originator", "demo-origination")
    assert (again["new"], again["repeated"]) == (0, 200)
    found = await desk.outcome("A-0")
    assert (found.status, found.funded_amount, found.worst_days_past_due) == ("paid_off", 1_000_000, 0)
    assert await desk.owner.fetchval("SELECT state FROM gate.reservations") == "posted"
    assert await desk.owner.fetchval("SELECT count(*) FROM gate.outcome_staging") == 0


async def test_a_mapped_table_is_loaded_as_the_mapping_says(desk: Desk, bring: Import, tmp_path: Path) -> None:
    await desk.decide("L-7")
    file, mapping = tmp_path / "servicing.csv.gz", tmp_path / "mapping.yaml"
    table = "loan;as at;status;late;owed\nL-7;31.01.2026;open;12;1.234,50\nL-7;28.02.2026;gone;x;\n"
    file.write_bytes(gzip.compress(table.encode()))
    mapping.write_text(
        """
name: servicing
file: {delimiter: ";", decimal_comma: true}
fields:
  application_id: {column: loan}
  kind: {constant: performance}
  occurred_on: {column: as at, as: date, format: "%d.%m.%Y"}
  days_past_due: {column: late, as: number}
  balance: {column: owed, as: money, optional: true}
  currency: {constant: CNY}
refuse:
  - {column: status, is_one_of: [gone], because: the loan is not ours any more}
""",
        encoding="utf-8",
    )
    done = bring("outcomes", file, "--originator", "demo-origination", "--mapping", mapping)
    assert (done["new"], done["rejects"]) == (1, {"not-mapped": 1})
    found = await desk.outcome("L-7")
    assert (found.days_past_due, found.performance_on) == (12, date(2026, 1, 31))
    assert await desk.owner.fetchval("SELECT balance FROM gate.outcome_events") == 123_450


class _KilledError(Exception):
    """The process ends here."""


def killed_after(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A load ends where it accounts for itself the n-th time, and accounts for nothing more; n is set in the list."""
    save, left = LoadLedger.save, [0]

    def dying(ledger: LoadLedger) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise _KilledError
        if left[0] > 0:
            save(ledger)

    monkeypatch.setattr(LoadLedger, "save", dying)
    return left


async def test_a_load_goes_on_where_it_was_killed_and_ends_as_if_it_had_not_been(
    desk: Desk, bring: Import, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "events.ndjson"
    file.write_text("\n".join(lines(40)) + "\n", encoding="utf-8")
    monkeypatch.setattr(importing, "CHUNK_ROWS", 100)
    said = ("outcomes", file, "--originator", "demo-origination", "--jobs", 1)
    left = killed_after(monkeypatch)
    resumed: list[str] = []
    for moments in (4, 5, 12, 9):  # among the copies, then among the merges
        left[0] = moments
        with pytest.raises((_KilledError, ExceptionGroup)):
            bring(*said, *resumed)
        resumed = ["--resume"]
    left[0] = 10**6
    done = bring(*said, "--resume")
    assert done["rows"] == 400
    assert await desk.owner.fetchval("SELECT count(*) FROM gate.outcome_events") == 400
    assert await desk.owner.fetchval("SELECT count(*) FROM gate.outcome_staging") == 0


async def test_a_load_whose_staged_rows_a_crash_has_lost_starts_over(
    desk: Desk, bring: Import, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "events.ndjson"
    file.write_text("\n".join(lines(10)) + "\n", encoding="utf-8")
    said = ("outcomes", file, "--originator", "demo-origination")
    left = killed_after(monkeypatch)
    left[0] = 4  # once copied, before a slot is merged
    with pytest.raises((_KilledError, ExceptionGroup)):
        bring(*said)
    left[0] = 10**6
    await desk.owner.execute("DELETE FROM gate.outcome_staging")
    done = bring(*said, "--resume")
    assert done["staged"] == 100
    assert await desk.owner.fetchval("SELECT count(*) FROM gate.outcome_events") == 100


async def test_no_login_of_the_service_reaches_the_staging_table(seeded_database: Database) -> None:
    for url in (seeded_database.serving, seeded_database.governance):
        connection = await asyncpg.connect(url)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch("SELECT gate.outcomes_merge(gen_random_uuid(), 0::smallint, 'x')")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.copy_records_to_table("outcome_staging", schema_name="gate", records=[])
        await connection.close()


def book(tmp_path: Path) -> Path:
    """Two loans: one by its months, one by its end; and one of a channel that nobody knows."""
    loan = {"channel_code": "search-ads", "product": "unsecured_consumer", "funded_on": "2025-01-15", "amount": 900}
    loan |= {"currency": "CNY", "term_months": 12, "segment": "B", "applicant_ref": "p-1"}
    rows: list[dict[str, Any]] = [
        loan | {"loan_ref": "H-1", "month_on_book": month, "days_past_due": (month - 1) * 30} for month in (1, 2, 3)
    ]
    rows += [loan | {"loan_ref": "H-2", "final_status": "charged_off", "closed_on": "2025-12-01"}]
    rows += [loan | {"loan_ref": "H-3", "channel_code": "nowhere"}, loan]
    file = tmp_path / "book.ndjson"
    file.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return file


async def test_history_is_what_retiering_reads_beside_the_loans_of_the_gate(
    desk: Desk, bring: Import, tmp_path: Path
) -> None:
    done = bring("history", book(tmp_path), "--complete-through", "2026-06-30")
    assert (done["loans"], done["months"]) == (2, 3)
    assert done["rejects"] == {"invalid-loan": 1, "unknown-channel": 1}
    assert bring("history", book(tmp_path), "--complete-through", "2026-06-30")["loans"] == 2
    bureau = b'{"bureau": {"score": 640, "score_band": "C"}}'
    await desk.decide("A-1", input=bureau)
    day = date(2026, 1, 20)
    await desk.report(
        {"application_id": "A-1", "kind": "funded", "occurred_on": day.isoformat(), "amount": 100},
        *(
            {
                "application_id": "A-1",
                "kind": "performance",
                "occurred_on": (day + timedelta(days=days)).isoformat(),
                "days_past_due": late,
                "balance": 90,
            }
            for days, late in ((12, 40), (30, 2), (60, 9))
        ),
    )
    await desk.owner.execute("SELECT gate.feed_state(1, 'f', NULL, '2026-03-31', 'x')")
    loans = await desk.owner.fetch(
        "SELECT origin, segment, score, status, worst_days_past_due, complete_through FROM gate.loans"
        " ORDER BY origin, loan_id"
    )
    assert [tuple(row) for row in loans] == [
        ("book", "B", None, "past_due", 60, date(2026, 6, 30)),
        ("book", "B", None, "charged_off", None, date(2026, 6, 30)),
        ("gate", "C", 640, "past_due", 40, date(2026, 3, 31)),
    ]
    months = await desk.owner.fetch(
        "SELECT month_on_book, days_past_due, worst_days_past_due FROM gate.loan_months"
        " WHERE origin = 'gate' ORDER BY month_on_book"
    )
    assert [tuple(row) for row in months] == [(1, 2, 40), (2, 9, 9)]


async def test_an_erased_person_is_gone_from_the_book_and_stays_gone_when_it_is_loaded_again(
    seeded_database: Database, desk: Desk, bring: Import, tmp_path: Path
) -> None:
    bring("history", book(tmp_path))
    governance = make_engine(seeded_database.governance, pool_size=1, autocommit=True)
    async with governance.connect() as connection:
        done = await erase_person(
            connection, "p-1", basis=LawBasis.ORDERED, periods=PERIODS, reason="request 12", change=CHANGE
        )
    await governance.dispose()
    assert (done.loans, done.erased, done.complete) == (2, 0, True)
    bring("history", book(tmp_path))
    assert await desk.owner.fetchval("SELECT count(applicant_ref) FROM gate.book_loans") == 0
    assert await desk.owner.fetchval("SELECT count(*) FROM gate.book_loans") == 2


def test_an_originator_that_is_not_there_is_said(bring: Import, tmp_path: Path) -> None:
    file = tmp_path / "events.ndjson"
    file.write_text("\n".join(lines(1)), encoding="utf-8")
    with pytest.raises(CommandError, match="no originator"):
        bring("outcomes", file, "--originator", "nobody")
