"""What-ifs over HTTP: started by one worker, run in a process of their own, seen and cancelled from any."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from sqlalchemy import text

from app.db.engine import make_engine
from app.domain.signing import Statement, prove
from app.governance import persons
from app.governance.persons import PersonRole
from app.policies.defaults import default_policy
from tests.api.conftest import Service, StartService
from tests.retention.decision_log import CHANGE, DecisionLog, opened
from tests.support.cluster import Database, eventually
from tests.whatif.stored_log import decide

DRAFTS = "/v1/policies/drafts"
NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
NONCE = "0123456789abcdef"


@pytest.fixture
async def log(seeded_database: Database) -> AsyncIterator[DecisionLog]:
    async with opened(seeded_database) as log:
        for days in (0, 35):
            await log.lay_out((NOON - timedelta(days=days)).replace(day=1, hour=0))
        for score in (690, 710):
            await decide(log, NOON - timedelta(days=2), bureau__score=score)
        await decide(log, NOON - timedelta(days=1), channel="search-ads", bureau__score=690)
        yield log


@pytest.fixture
async def service(log: DecisionLog, start_service: StartService, tmp_path: Path) -> Service:
    return await start_service(extract_directory=tmp_path / "extract")


def _stricter() -> dict[str, Any]:
    document = default_policy()
    next(rule for rule in document["rules"] if rule["code"] == "BU03")["thresholds"]["prime"] = 700
    document["cases"] = []
    return document


async def _draft(author: httpx.AsyncClient) -> dict[str, Any]:
    written = await author.post(DRAFTS, json=_stricter())
    assert written.status_code == 201, written.text
    draft: dict[str, Any] = written.json()
    return draft


async def _ended(client: httpx.AsyncClient, location: str) -> dict[str, Any]:
    async def over() -> bool:
        return bool((await client.get(location)).json()["state"] != "running")

    await eventually(over, timeout_seconds=60)
    run: dict[str, Any] = (await client.get(location)).json()
    return run


async def test_a_run_leaves_a_report_whose_digest_an_approval_names(service: Service, database_owner: Any) -> None:
    async with database_owner.begin() as connection:
        secrets = {
            role: await persons.add_person(connection, f"demo-{role}", name=role, roles=[role], change=CHANGE)
            for role in (PersonRole.POLICY_AUTHOR, PersonRole.POLICY_APPROVER)
        }
        await persons.set_rules(connection, single_person=False, report_required=True, reason="t", change=CHANGE)
    author, approver = await service.client("policy-author"), await service.client("policy-approver")
    draft = await _draft(author)
    path, document = f"{DRAFTS}/{draft['draft_id']}", bytes.fromhex(draft["digest"])
    statement = Statement(act="submit", subject="policy", nonce=NONCE, digest=document)
    signed = prove(secrets[PersonRole.POLICY_AUTHOR], statement).hex()
    draft = (await author.post(f"{path}/submit", json={"nonce": NONCE, "proof": signed})).json()

    started = await author.post(f"{path}/what-if", json={"reviewers": 1})
    assert started.status_code == 202, started.text
    run = await _ended(approver, started.headers["location"])
    assert (run["state"], run["failure"], run["rows_done"]) == ("done", None, 3)
    assert run["measured"]["hot_path_microseconds"]["rows"] == 3
    (listed,) = (await approver.get(f"{path}/reports")).json()["items"]
    assert (listed["report_digest"], listed["created_by"]) == (run["report_digest"], run["created_by"])
    report = (await approver.get(f"{path}/reports/{run['report_id']}")).json()
    assert sha256(report["text"].encode()).hexdigest() == run["report_digest"]
    content = json.loads(report["text"])
    assert content["draft"]["digest"] == draft["digest"]
    assert {(cell["channel"], cell["before"], cell["after"]) for cell in content["matrix"]} == {
        ("app-store", "accept", "accept"),
        ("app-store", "accept", "reject"),
        ("search-ads", "accept", "reject"),
    }

    warnings = tuple(draft["warnings"])

    def approval(digest: str) -> dict[str, Any]:
        statement = Statement(
            act="approve",
            subject=f"draft/{draft['draft_id']}",
            nonce=draft["nonce"],
            digest=document,
            report_digest=bytes.fromhex(digest),
            warnings=warnings,
        )
        proof = prove(secrets[PersonRole.POLICY_APPROVER], statement).hex()
        said = {"document_digest": draft["digest"], "report_digest": digest, "acknowledged_warnings": warnings}
        return said | {"proof": proof}

    other = await approver.post(f"{path}/approve", json=approval("00" * 32))
    assert other.status_code == 422
    approved = await approver.post(f"{path}/approve", json=approval(run["report_digest"]))
    assert (approved.status_code, approved.json()["state"]) == (200, "active"), approved.text


@pytest.fixture
async def database_owner(seeded_database: Database) -> AsyncIterator[Any]:
    engine = make_engine(seeded_database.owner, pool_size=1)
    yield engine
    await engine.dispose()


async def test_the_same_question_on_the_same_rows_gives_the_same_report(service: Service) -> None:
    author = await service.client("policy-author")
    path = f"{DRAFTS}/{(await _draft(author))['draft_id']}/what-if"
    asked = {
        "from": (NOON - timedelta(days=3)).isoformat(),
        "to": NOON.isoformat(),
        "channels": ["app-store"],
        "baseline": 1,
        "pd": {"field": "bureau.score", "bands": [{"from": 0, "pd_pct": 12.5}, {"from": 700, "pd_pct": "4"}]},
    }
    runs = []
    for _ in range(2):
        started = await author.post(path, json=asked)
        assert started.status_code == 202, started.text
        runs.append(await _ended(author, started.headers["location"]))
    assert [run["state"] for run in runs] == ["done", "done"], runs
    assert runs[0]["report_id"] == runs[1]["report_id"]
    content = json.loads((await author.get(f"{path[:-8]}/reports/{runs[0]['report_id']}")).json()["text"])
    assert content["source"]["channels"] == ["app-store"]
    assert content["expected_loss"]["known"] is True
    page = (await author.get(path, params={"limit": 1})).json()
    (newest,) = page["items"]
    (oldest,) = (await author.get(path, params={"limit": 1, "cursor": page["next_cursor"]})).json()["items"]
    assert (newest["run_id"], oldest["run_id"]) == (runs[1]["run_id"], runs[0]["run_id"])
    other = await _ended(author, (await author.post(path, json=asked | {"reviewers": 9})).headers["location"])
    newest = (await author.get(f"{path[:-8]}/reports", params={"limit": 1})).json()
    oldest = (await author.get(f"{path[:-8]}/reports", params={"limit": 1, "cursor": newest["next_cursor"]})).json()
    assert [page["items"][0]["report_id"] for page in (newest, oldest)] == [other["report_id"], runs[0]["report_id"]]
    assert (len(oldest["items"]), oldest["next_cursor"]) == (1, None)


@pytest.mark.parametrize(
    ("asked", "failure"),
    [
        ({"baseline": 9}, "no such version"),
        ({"pd": {"field": "bureau.score", "bands": [{"from": 9, "pd_pct": 1}, {"from": 3, "pd_pct": 1}]}}, "rising"),
    ],
)
async def test_what_cannot_be_answered_fails_in_words(service: Service, asked: dict[str, Any], failure: str) -> None:
    author = await service.client("policy-author")
    path = f"{DRAFTS}/{(await _draft(author))['draft_id']}/what-if"
    run = await _ended(author, (await author.post(path, json=asked)).headers["location"])
    assert run["state"] == "failed"
    assert failure in run["failure"]
    assert run["report_digest"] is None


async def test_a_run_is_cancelled_from_another_worker_and_stores_nothing(
    service: Service, log: DecisionLog, start_service: StartService
) -> None:
    other = await start_service()
    author, elsewhere = await service.client("policy-author"), await other.client("policy-author")
    path = f"{DRAFTS}/{(await _draft(author))['draft_id']}/what-if"
    async with log.arrange.transaction():
        await log.arrange.execute("LOCK TABLE gate.journal_digests IN ACCESS EXCLUSIVE MODE")
        started = await author.post(path, json={})
        location = started.headers["location"]

        async def reading() -> bool:
            return bool((await elsewhere.get(location)).json()["phase"] == "reading")

        await eventually(reading, timeout_seconds=60)
        assert (await elsewhere.post(path, json={})).status_code == 409
        second = await author.post(path, json={})
        assert (second.status_code, "nother what-if is running" in second.text) == (409, True)
        cancelled = await elsewhere.post(f"{location}/cancel")
        assert cancelled.json()["cancelled_by"] is not None
    run = await _ended(author, location)
    assert (run["state"], run["report_id"]) == ("cancelled", None)
    assert (await author.get(f"{path[:-8]}/reports")).json()["items"] == []
    assert (await author.post(path, json={})).status_code == 202


async def test_a_run_whose_process_is_killed_has_failed(service: Service, log: DecisionLog) -> None:
    author = await service.client("policy-author")
    path = f"{DRAFTS}/{(await _draft(author))['draft_id']}/what-if"
    async with log.arrange.transaction():
        await log.arrange.execute("LOCK TABLE gate.journal_digests IN ACCESS EXCLUSIVE MODE")
        location = (await author.post(path, json={})).headers["location"]
        (child,) = [each for each in psutil.Process().children() if each.cmdline()[1:3] == ["-m", "app.whatif"]]
        child.kill()
        run = await _ended(author, location)
    assert (run["state"], run["failure"]) == ("failed", "its process ended with -9")


async def test_a_run_ends_with_its_service_even_where_it_waits_for_the_log(service: Service, log: DecisionLog) -> None:
    author = await service.client("policy-author")
    path = f"{DRAFTS}/{(await _draft(author))['draft_id']}/what-if"
    async with log.arrange.transaction():
        await log.arrange.execute("LOCK TABLE gate.journal_digests IN ACCESS EXCLUSIVE MODE")
        location = (await author.post(path, json={})).headers["location"]
        (child,) = [each for each in psutil.Process().children() if each.cmdline()[1:3] == ["-m", "app.whatif"]]
        await service.app.gate.what_ifs.stop()
        assert not psutil.pid_exists(child.pid)
    run = (await author.get(location)).json()
    assert (run["state"], run["report_id"]) in {("failed", None), ("cancelled", None)}


async def test_a_silent_run_is_over_after_a_minute(service: Service, log: DecisionLog) -> None:
    author = await service.client("policy-author")
    draft_id = (await _draft(author))["draft_id"]
    async with service.app.gate.admin_engine.connect() as connection:
        number = (
            await connection.execute(text("SELECT run_id FROM gate.whatif_begin(:id, '{}', 'x')"), {"id": draft_id})
        ).scalar_one()
    await log.arrange.execute("UPDATE gate.whatif_runs SET heard_at = now() - interval '61 seconds'")
    started = await author.post(f"{DRAFTS}/{draft_id}/what-if", json={})
    assert started.status_code == 202, started.text
    assert (await author.get(f"{DRAFTS}/{draft_id}/what-if/{number}")).json()["failure"] == "its process is gone"
    await _ended(author, started.headers["location"])


async def test_who_may_not_write_or_approve_policies_starts_none(service: Service) -> None:
    path = f"{DRAFTS}/{(await _draft(await service.client('policy-author')))['draft_id']}/what-if"
    for role in ("origination", "analyst"):
        assert (await (await service.client(role)).post(path, json={})).status_code == 403


async def test_a_service_without_an_extract_says_what_it_lacks(start_service: StartService) -> None:
    author = await (await start_service()).client("policy-author")
    refused = await author.post(f"{DRAFTS}/{(await _draft(author))['draft_id']}/what-if", json={})
    assert (refused.status_code, "GATE_EXTRACT_DIRECTORY" in refused.text) == (409, True)
