"""The extract agrees with the log, or is made to, or is not used."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app.domain.channel import ChannelState
from app.domain.compiled import CompiledPolicy
from app.domain.compiler import compile_policy
from app.domain.policy_changes import with_threshold
from app.retention.erase import LawBasis, erase_person
from app.whatif import reconcile as reconciling
from app.whatif.extract import ExtractDirectory, ExtractError, LogExtract, Selection
from app.whatif.reconcile import LogChangedError, reconcile
from app.whatif.run import CancelledError, what_if
from tests.domain.builders import business_payload
from tests.retention.decision_log import CHANGE, PERIODS, DecisionLog, opened
from tests.support.cluster import Database
from tests.whatif.stored_log import active_policy, decide

NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
ALL = Selection()


@pytest.fixture
async def log(seeded_database: Database) -> AsyncIterator[DecisionLog]:
    async with opened(seeded_database) as log:
        for days in (0, 35, 70):
            await log.lay_out((NOON - timedelta(days=days)).replace(day=1, hour=0))
        yield log


def before(days: int, **moment: int) -> datetime:
    return (NOON - timedelta(days=days)).replace(**moment)  # type: ignore[arg-type]


async def extract(log: DecisionLog, directory: Path, selection: Selection = ALL) -> tuple[LogExtract, int]:
    """The extract, and how many decisions had to be read for it."""
    read = 0

    def note(done: int, _total: int) -> None:
        nonlocal read
        read = done

    async with log.governance("REPEATABLE READ") as connection:
        return await reconcile(connection, directory, selection, on_progress=note), read


def totals(source: LogExtract, draft: CompiledPolicy | None = None) -> dict[tuple[str, str], int]:
    document: Any = what_if(source, draft or active_policy()).document
    return {(each["before"], each["after"]): each["decisions"] for each in document["totals"]}


def stricter() -> CompiledPolicy:
    return compile_policy(with_threshold(active_policy().document, "BU03", "prime", 700).document())


async def test_a_draft_like_the_policy_that_decided_changes_nothing(log: DecisionLog, tmp_path: Path) -> None:
    await decide(log, before(3))
    await decide(log, before(2), channel="search-ads", tier=None, bureau__score=500)
    await decide(log, before(2), state=ChannelState.PROBATION, tier=None, amount=19_000_000)
    await decide(log, before(1), state=ChannelState.PROBATION, tier="risk", applicant__monthly_income=None)
    await decide(log, before(1), tier="gone")
    await decide(log, before(1), request=business_payload(amount=5_000_000))
    source, read = await extract(log, tmp_path / "x")
    report: Any = what_if(source, active_policy()).document
    assert read == report["decisions"] == 6
    assert report["flips"] == []
    assert report["ceilings"] == {"lowered": 0, "raised": 0, "unchanged": 6}
    assert report["checked_against_the_hot_path"] == 6
    assert {each["before"] for each in report["totals"]} == {"accept", "escalate", "reject"}


async def test_a_stricter_draft_flips_whom_it_says(log: DecisionLog, tmp_path: Path) -> None:
    entry = await decide(log, before(2), bureau__score=690)
    await decide(log, before(2), bureau__score=710)
    source, _ = await extract(log, tmp_path / "x")
    report: Any = what_if(source, stricter()).document
    (flip,) = report["flips"]
    assert (flip["before"], flip["after"], flip["decisions"], flip["amount"]) == ("accept", "reject", 1, entry.amount)
    assert flip["reasons_gained"] == {"BU03": 1}
    assert flip["examples"][0]["id"] == str(entry.decision_id)
    assert report["exposure"]["accepted"] == {"before": 2, "after": 1}
    assert report["repayment"]["swap_out"] == {"decisions": 1, "amount": entry.amount, "known": 0, "repaid": None}


async def test_a_day_is_read_once(log: DecisionLog, tmp_path: Path) -> None:
    await decide(log, before(3))
    await decide(log, before(2))
    await log.digest(before(3))  # one day is compared with its digest, the other with the log
    assert (await extract(log, tmp_path / "x"))[1] == 2
    source, read = await extract(log, tmp_path / "x")
    assert read == 0
    assert totals(source) == {("accept", "accept"): 2}


async def test_a_day_that_goes_on_is_read_again_and_no_other(log: DecisionLog, tmp_path: Path) -> None:
    await decide(log, before(3))
    await decide(log, before(0, hour=0))
    await extract(log, tmp_path / "x")
    await decide(log, before(0, hour=1))
    source, read = await extract(log, tmp_path / "x")
    assert read == 2
    assert totals(source) == {("accept", "accept"): 3}


async def test_a_damaged_file_is_made_again(log: DecisionLog, tmp_path: Path) -> None:
    await decide(log, before(2))
    await extract(log, tmp_path / "x")
    (file,) = (tmp_path / "x").glob("*.parquet")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    source, read = await extract(log, tmp_path / "x")
    assert read == 1
    assert totals(source) == {("accept", "accept"): 1}


@pytest.mark.parametrize("index", ["", "{", '{"layout": "another", "days": []}', '{"layout": 1, "days": [{"day": 1}]}'])
async def test_an_index_that_does_not_fit_is_made_again(log: DecisionLog, tmp_path: Path, index: str) -> None:
    await decide(log, before(2))
    await extract(log, tmp_path / "x")
    (tmp_path / "x" / "index.json").write_text(index, encoding="utf-8")
    assert (await extract(log, tmp_path / "x"))[1] == 1


async def test_a_log_that_is_not_what_was_digested_is_not_extracted(log: DecisionLog, tmp_path: Path) -> None:
    await decide(log, before(2))
    await log.digest(before(2))
    await log.arrange.execute("UPDATE gate.decisions SET outcome = 'escalate', reason_codes = '{X}'")
    with pytest.raises(LogChangedError, match="not what was digested"):
        await extract(log, tmp_path / "x")
    assert list((tmp_path / "x").glob("*.parquet*")) == []


async def test_an_input_that_was_changed_is_not_extracted(log: DecisionLog, tmp_path: Path) -> None:
    await decide(log, before(2))
    await log.arrange.execute("UPDATE gate.decisions SET input = replace(encode(input, 'escape'), '12', '13')::bytea")
    with pytest.raises(LogChangedError, match="input or record"):
        await extract(log, tmp_path / "x")


async def test_an_undigested_day_that_was_changed_is_read_again(log: DecisionLog, tmp_path: Path) -> None:
    await decide(log, before(2))
    await extract(log, tmp_path / "x")
    await log.arrange.execute("UPDATE gate.decisions SET outcome = 'escalate', reason_codes = '{X}'")
    source, read = await extract(log, tmp_path / "x")
    assert read == 1
    assert totals(source) == {("escalate", "accept"): 1}


async def test_who_is_erased_leaves_the_extract_with_its_next_use(log: DecisionLog, tmp_path: Path) -> None:
    await decide(log, before(2), applicant__applicant_ref="p-gone")
    await decide(log, before(2), applicant__applicant_ref="p-stays")
    await decide(log, before(3), applicant__applicant_ref="p-stays-too")
    await log.digest(before(2))
    await extract(log, tmp_path / "x")
    async with log.governance() as connection:
        await erase_person(
            connection,
            applicant_ref="p-gone",
            basis=LawBasis.ORDERED,
            periods=PERIODS,
            reason="order 1",
            change=CHANGE,
        )
    source, read = await extract(log, tmp_path / "x")
    assert read == 2
    report: Any = what_if(source, active_policy()).document
    assert (report["source"]["decisions"], report["source"]["erased"], report["decisions"]) == (3, 1, 2)
    content = b"".join(file.read_bytes() for file in (tmp_path / "x").iterdir())
    assert b"p-gone" not in content
    assert (await extract(log, tmp_path / "x"))[1] == 0


async def test_a_month_that_was_dropped_leaves_the_extract(log: DecisionLog, tmp_path: Path) -> None:
    await decide(log, before(35))
    await decide(log, before(1))
    await extract(log, tmp_path / "x")
    month = before(35).date().replace(day=1)
    await log.arrange.execute(
        "INSERT INTO gate.dropped_months SELECT (jsonb_populate_record(NULL::gate.dropped_months, $1::jsonb)).*",
        await dropped_row(log, month.isoformat()),
    )
    source, _ = await extract(log, tmp_path / "x")
    assert totals(source) == {("accept", "accept"): 1}
    assert len(list((tmp_path / "x").glob("*.parquet"))) == 1


async def dropped_row(log: DecisionLog, month: str) -> str:
    columns = await log.arrange.fetch(
        "SELECT column_name, data_type FROM information_schema.columns "
        "WHERE table_schema = 'gate' AND table_name = 'dropped_months'"
    )
    filler = {"bigint": "1", "bytea": '"\\\\x00"', "timestamp with time zone": '"2026-01-01T00:00:00Z"', "text": '"x"'}
    given = {"month": f'"{month}"', "retention_class": '"consumer"'}
    pairs = (f'"{row[0]}": {given.get(row[0]) or filler.get(row[1], "1")}' for row in columns)
    return "{" + ", ".join(pairs) + "}"


async def test_only_its_owner_may_read_it(log: DecisionLog, tmp_path: Path) -> None:
    await decide(log, before(2))
    await extract(log, tmp_path / "x")
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "x").iterdir()} == {0o600}
    (tmp_path / "x").chmod(0o755)
    with pytest.raises(ExtractError, match="others must have no access"):
        await extract(log, tmp_path / "x")


async def test_two_processes_do_not_write_it_at_once(log: DecisionLog, tmp_path: Path) -> None:
    with ExtractDirectory(tmp_path / "x").locked(), pytest.raises(ExtractError, match="another process"):
        await extract(log, tmp_path / "x")


async def test_a_period_is_half_open_and_channels_are_chosen_by_code(log: DecisionLog, tmp_path: Path) -> None:
    for hour in (9, 10, 11):
        await decide(log, before(2, hour=hour), channel="app-store")
    await decide(log, before(2, hour=10), channel="search-ads")
    wanted = Selection(
        decided_from=before(2, hour=10), decided_to=before(2, hour=11), channels=frozenset({"app-store"})
    )
    source, _ = await extract(log, tmp_path / "x", wanted)
    assert totals(source) == {("accept", "accept"): 1}
    assert source.document()["decisions"] == 1


async def test_what_cannot_be_read_is_counted(log: DecisionLog, tmp_path: Path) -> None:
    await decide(log, before(2))
    await log.decide(before(2, hour=13))  # its record is none
    source, _ = await extract(log, tmp_path / "x")
    assert totals(source) == {("accept", "accept"): 1}
    assert source.document()["unreadable"] == 1


async def test_the_same_log_gives_the_same_report(log: DecisionLog, tmp_path: Path) -> None:
    for score in (650, 690, 710, 500):
        await decide(log, before(2), bureau__score=score)
    first, _ = await extract(log, tmp_path / "x")
    other, _ = await extract(log, tmp_path / "y")
    assert what_if(first, stricter()).digest == what_if(other, stricter()).digest
    assert what_if(first, stricter()).digest != what_if(first, active_policy()).digest


async def test_a_reading_that_is_cancelled_keeps_the_days_that_were_read(
    log: DecisionLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciling, "_STREAM_ROWS", 1)
    await decide(log, before(3))
    await decide(log, before(2))
    done = 0

    def note(count: int, _total: int) -> None:
        nonlocal done
        done = count

    async with log.governance("REPEATABLE READ") as connection:
        with pytest.raises(CancelledError):
            await reconcile(connection, tmp_path / "x", ALL, on_progress=note, is_cancelled=lambda: done == 1)
    assert len(ExtractDirectory(tmp_path / "x").index()) == 1
    assert (await extract(log, tmp_path / "x"))[1] == 1


async def test_a_what_if_that_is_cancelled_has_no_report(log: DecisionLog, tmp_path: Path) -> None:
    await decide(log, before(2))
    source, _ = await extract(log, tmp_path / "x")
    with pytest.raises(CancelledError):
        what_if(source, active_policy(), is_cancelled=lambda: True)
