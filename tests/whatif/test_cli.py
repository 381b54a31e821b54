"""`channel-gate whatif` and `extract`, as a person runs them."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from app.cli import build_app
from app.cli.errors import CommandError
from app.domain.canonical import canonical_bytes
from app.domain.policy_changes import with_threshold
from tests.retention.decision_log import DecisionLog, opened
from tests.support.cluster import Database
from tests.whatif.stored_log import active_policy, decide

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)

HISTORY = """\
loanId,channel,applicationDate,payFrequency,apr,state,leadCost,nPaidOff,loanAmount,originallyScheduledPaymentAmount,\
has_clarity_id,source_row,customer_key,approved,default_flag
L-1,organic,2016-02-23T17:29:01,B,360,IL,0,2,400,900,1,1,C1,1,0
L-2,organic,2016-02-23T18:00:00,B,690,IL,0,2,400,900,1,2,C2,1,1
L-3,lead,2016-02-24T09:00:00,I,360,IL,60,0,400,900,1,3,C3,0,
L-4,nowhere,2016-02-24T09:00:00,W,360,IL,60,0,400,900,1,4,C4,0,
L-5,lead,2016-02-24T09:00:00,W,360,IL,60,0,,900,1,5,C5,0,
"""


def invoke(*arguments: str, environment: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(build_app(), [*arguments], env={"COLUMNS": "200", **(environment or {})})


def on_file(tmp_path: Path, *options: str, history: str = HISTORY) -> Result:
    file, draft = tmp_path / "history.csv", tmp_path / "draft.yaml"
    file.write_text(history, encoding="utf-8")
    text = (EXAMPLES / "moneylion.policy.yaml").read_text(encoding="utf-8")
    draft.write_text(text.replace("{prime: 700, general: 700, risk: 700}", "{prime: 700, general: 600, risk: 700}"))
    mapping, channels = EXAMPLES / "moneylion.mapping.yaml", EXAMPLES / "moneylion.channels.yaml"
    return invoke(
        "whatif", str(draft), "--against", str(file), "--mapping", str(mapping), "--channels", str(channels), *options
    )


def test_a_file_is_decided_under_two_policies_without_a_server(tmp_path: Path) -> None:
    options = ("--baseline", str(EXAMPLES / "moneylion.policy.yaml"), "--repaid", "default_flag:yes=0,no=1", "--json")
    result = on_file(tmp_path, *options)
    assert result.exit_code == 0, result.output
    report: Any = json.loads(result.stdout)["report"]
    assert report["source"]["left_out"] == {"not-mapped": 1, "unknown-channel": 1}
    (flip,) = report["flips"]
    assert (flip["before"], flip["after"], flip["examples"][0]["id"]) == ("accept", "reject", "L-2")
    assert report["repayment"]["swap_out"] == {"decisions": 1, "amount": 40_000, "known": 1, "repaid": 0}


def test_a_file_is_compared_with_what_was_decided_then(tmp_path: Path) -> None:
    result = on_file(tmp_path, "--recorded", "approved:accept=1,reject=0", "--json")
    report: Any = json.loads(result.stdout)["report"]
    totals = {(each["before"], each["after"]): each["decisions"] for each in report["totals"]}
    assert totals == {("accept", "accept"): 1, ("accept", "reject"): 1, ("reject", "escalate"): 1}


def test_the_report_that_is_written_has_the_digest_that_is_shown(tmp_path: Path) -> None:
    output = tmp_path / "report.json"
    result = on_file(tmp_path, "--recorded", "approved:accept=1,reject=0", "--output", str(output))
    assert result.exit_code == 0, result.output
    content = output.read_bytes()
    assert canonical_bytes(json.loads(content)) == content
    assert result.stdout.rstrip().endswith(hashlib.sha256(content).hexdigest())
    assert "accept → reject: 1" in result.stdout


def test_a_period_chooses_rows_of_a_file(tmp_path: Path) -> None:
    result = on_file(tmp_path, "--from", "2016-02-24", "--json")
    report: Any = json.loads(result.stdout)["report"]
    assert report["decisions"] == 1
    assert report["source"]["left_out"]["not-selected"] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--recorded", "approved"), "COLUMN:MEANING=TEXT"),
        (("--recorded", "approved:maybe=1"), "COLUMN:MEANING=TEXT"),
        (("--from", "yesterday"), "must be a date"),
    ],
)
def test_a_wrong_call_is_refused(tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    result = on_file(tmp_path, *options)
    assert result.exit_code == 2
    assert message in result.output.replace("\n", " ")


def test_what_cannot_be_read_is_said_in_one_line(tmp_path: Path) -> None:
    bands = tmp_path / "bands.yaml"
    bands.write_text("field: bureau.score\nbands: []\n", encoding="utf-8")
    for options in (("--pd", str(bands)), ("--recorded", "no_such_column:accept=1"), ("--channels", str(bands))):
        assert isinstance(on_file(tmp_path, *options).exception, CommandError)


@pytest.fixture
async def log(seeded_database: Database) -> AsyncIterator[DecisionLog]:
    async with opened(seeded_database) as log:
        for days in (0, 35):
            await log.lay_out((NOON - timedelta(days=days)).replace(day=1, hour=0))
        yield log


async def test_the_log_is_extracted_and_decided_again(log: DecisionLog, tmp_path: Path) -> None:
    for score in (690, 710):
        await decide(log, NOON - timedelta(days=2), bureau__score=score)
    draft = tmp_path / "draft.json"
    draft.write_bytes(canonical_bytes(with_threshold(active_policy().document, "BU03", "prime", 700).document()))
    environment = {
        "GOVERNANCE_DATABASE_URL": log.database.governance,
        "GATE_EXTRACT_DIRECTORY": str(tmp_path / "extract"),
    }
    made = await asyncio.to_thread(invoke, "extract", environment=environment)
    assert made.stdout == "2 decisions in 1 days agree with the log\n"
    result = await asyncio.to_thread(
        invoke, "whatif", str(draft), "--against", "log", "--json", environment=environment
    )
    assert result.exit_code == 0, result.output
    report: Any = json.loads(result.stdout)["report"]
    assert [flip["reasons_gained"] for flip in report["flips"]] == [{"BU03": 1}]


async def test_the_log_needs_a_place_for_its_extract(log: DecisionLog) -> None:
    environment = {"GOVERNANCE_DATABASE_URL": log.database.governance}
    result = await asyncio.to_thread(invoke, "extract", environment=environment)
    assert isinstance(result.exception, CommandError)
    assert "GATE_EXTRACT_DIRECTORY" in str(result.exception)
