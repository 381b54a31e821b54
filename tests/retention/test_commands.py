"""The commands, as a person or a CronJob runs them."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import pytest

from app.cli import main
from tests.retention.decision_log import DUE, DecisionLog, month_back
from tests.support.cluster import in_thread


@pytest.fixture
def governance_alone(log: DecisionLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that knows the governance login and no other."""
    monkeypatch.setenv("GOVERNANCE_DATABASE_URL", log.database.governance)


async def run(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of `channel-gate` with these arguments."""

    def command() -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with (
            redirect_stdout(out),
            redirect_stderr(err),
            patch.object(sys, "argv", ["channel-gate", *arguments]),
            patch.object(sys, "stdin", io.StringIO(stdin)),
            pytest.raises(SystemExit) as ended,
        ):
            main()
        return int(ended.value.code or 0), out.getvalue(), err.getvalue()

    return in_thread(command)


@pytest.mark.usefixtures("governance_alone")
async def test_a_month_is_digested_verified_and_dropped(log: DecisionLog) -> None:
    month = month_back(DUE)
    await log.lay_out(month)
    await log.decide(month)
    end = f"{month_back(DUE - 1) - timedelta(days=1):%Y-%m-%d}"
    code, out, _ = await run("journal", "digest", "--day", end)
    assert (code, out.splitlines()[-1][:10]) == (0, end)
    code, out, _ = await run("journal", "verify")
    assert (code, out.split()[3:5]) == (0, ["1", "decisions"])
    code, out, _ = await run("retention", "drop", "--dry-run")
    assert (code, out) == (0, f"{month:%Y-%m} business: would remove 0 decisions, keeps 0\n"
                              f"{month:%Y-%m} consumer: would remove 1 decisions, keeps 0\n")  # fmt: skip
    code, out, _ = await run("retention", "drop")
    assert code == 0
    assert f"{month:%Y-%m} consumer: removed 1 decisions, keeps 0\n" in out
    code, out, _ = await run("retention", "drop")
    assert (code, out) == (0, "no month is past its time\n")


@pytest.mark.usefixtures("governance_alone")
async def test_a_changed_log_ends_with_one_and_names_the_day_and_the_decision(log: DecisionLog) -> None:
    day = datetime.now(UTC) - timedelta(days=2)
    entry = await log.decide(day)
    assert (await run("journal", "digest", "--day", f"{day:%Y-%m-%d}"))[0] == 0
    await log.arrange.execute("UPDATE gate.decisions SET record = 'x', outcome = 'reject', reason_codes = '{A}'")
    code, out, err = await run("journal", "verify")
    assert (code, err) == (1, "error: the log is not what it was: 2 differences\n")
    assert f"{day:%Y-%m-%d} consumer: a decision of hour {day.hour} has been changed" in out
    assert f"{day:%Y-%m-%d} consumer: input or record of decision {entry.decision_id} has been changed" in out


@pytest.mark.usefixtures("governance_alone")
async def test_holds_and_erasure_from_the_command_line(log: DecisionLog) -> None:
    await log.decide(datetime.now(UTC), applicant_ref="person-1")
    code, out, _ = await run(
        "retention", "hold", "place", "--applicant-ref", "-", "--reason", "lawsuit", stdin="person-1\n"
    )
    assert (code, out) == (0, "hold 1\n")
    erase = ("retention", "erase", "--applicant-ref", "person-1", "--reason", "request 12")
    code, out, err = await run(*erase, "--basis", "ordered")
    assert (code, err.count("\n")) == (1, 1)
    assert "1 decisions are under legal hold" in err
    code, out, _ = await run("retention", "hold", "list")
    assert '"applicant_ref":"person-1"' in out
    assert (await run("retention", "hold", "release", "1", "--reason", "settled"))[0] == 0
    code, out, err = await run(*erase)
    assert code == 1
    assert "1 within their retention period" in err
    code, out, _ = await run(*erase, "--basis", "ordered")
    assert (code, out) == (0, "blanked 1 decisions and 0 quarantined inputs\n")
    code, _, err = await run(*erase, "--basis", "ordered")
    assert (code, err) == (1, "error: the log holds nothing about that person\n")


@pytest.mark.usefixtures("governance_alone")
async def test_partitions_are_laid_out_ahead(log: DecisionLog) -> None:
    assert (await run("retention", "partitions", "--ahead", "5"))[:2] == (
        0,
        "made 4 partitions; 5 months lie ahead\n",
    )
    assert (await run("retention", "partitions"))[:2] == (0, "made 0 partitions; 5 months lie ahead\n")


@pytest.mark.usefixtures("governance_alone")
async def test_audit_log_is_verified_anchored_and_exported(log: DecisionLog, tmp_path: Path) -> None:
    anchor = tmp_path / "anchor.json"
    code, out, _ = await run("audit", "verify", "--write-anchor", str(anchor))
    assert code == 0
    rows = int(out.split()[0])
    assert len((await run("audit", "export"))[1].splitlines()) == rows
    await log.arrange.execute("ALTER TABLE gate.audit_log DISABLE TRIGGER ALL")
    await log.arrange.execute("DELETE FROM gate.audit_log")
    await log.arrange.execute("UPDATE gate.audit_head SET sequence = 0, hash = ''")
    assert (await run("audit", "verify"))[0] == 0
    code, _, err = await run("audit", "verify", "--anchor", str(anchor))
    assert (code, err) == (1, f"error: row 1 has been cut off: the anchor names {rows} rows\n")


async def test_without_a_database_a_command_says_so_in_one_line() -> None:
    assert await run("journal", "digest") == (1, "", "error: GOVERNANCE_DATABASE_URL is not set\n")
