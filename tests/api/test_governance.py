"""Governance over HTTP: two persons and a policy, one person and an emergency, and what an auditor gets of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import httpx
import pytest

from app.db.changes import Change
from app.db.engine import make_engine
from app.domain.signing import Statement, prove
from app.governance import persons
from app.governance.persons import PersonRole
from app.policies.defaults import default_policy
from tests.api.conftest import Service, StartService
from tests.retention.decision_log import opened
from tests.support.cluster import Database
from tests.support.service import application

DRAFTS = "/v1/policies/drafts"
CHANGE = Change(actor="tester", request_id="r")
NONCE = "0123456789abcdef"
_ROLES = {
    "policy-author": PersonRole.POLICY_AUTHOR,
    "policy-approver": PersonRole.POLICY_APPROVER,
    "admin": PersonRole.ADMIN,
}


@pytest.fixture
async def secrets(seeded_database: Database) -> dict[str, str]:
    """By role: the demo gives each role a person of its own."""
    owner = make_engine(seeded_database.owner, pool_size=1)
    async with owner.begin() as connection:
        made = {
            role: await persons.add_person(connection, f"demo-{role}", name=role, roles=[signs], change=CHANGE)
            for role, signs in _ROLES.items()
        }
        await persons.set_rules(connection, single_person=False, report_required=False, reason="t", change=CHANGE)
    await owner.dispose()
    return made


@pytest.fixture
async def governed(secrets: dict[str, str], start_service: StartService) -> Service:
    return await start_service()


def _proof(secret: str, act: Any, subject: str, **said: Any) -> str:
    statement = Statement(act=act, subject=subject, nonce=said.pop("nonce", NONCE), **said)
    return prove(secret, statement).hex()


def _changed(score: int = 610) -> dict[str, Any]:
    document = default_policy()
    next(rule for rule in document["rules"] if rule["code"] == "BU03")["thresholds"]["general"] = score
    return document


async def _submitted(author: httpx.AsyncClient, secret: str) -> dict[str, Any]:
    written = await author.post(DRAFTS, json=_changed(), params={"comment": "looser"})
    assert written.status_code == 201, written.text
    document = bytes.fromhex(written.json()["digest"])
    submitted = await author.post(
        f"{written.headers['location']}/submit",
        json={"nonce": NONCE, "proof": _proof(secret, "submit", "policy", digest=document)},
    )
    assert submitted.status_code == 200, submitted.text
    draft: dict[str, Any] = submitted.json()
    return draft


def _approval(secret: str, draft: dict[str, Any]) -> dict[str, Any]:
    warnings = tuple(draft["warnings"])
    proof = _proof(
        secret,
        "approve",
        f"draft/{draft['draft_id']}",
        nonce=draft["nonce"],
        digest=bytes.fromhex(draft["digest"]),
        warnings=warnings,
    )
    return {"document_digest": draft["digest"], "acknowledged_warnings": warnings, "proof": proof}


async def test_a_draft_is_approved_by_a_second_person_and_the_bundle_says_so(
    governed: Service, secrets: dict[str, str]
) -> None:
    author, approver = await governed.client("policy-author"), await governed.client("policy-approver")
    draft = await _submitted(author, secrets["policy-author"])
    assert draft["state"] == "in_review"
    assert [each["text"] for each in draft["differences"]] == ["BU03 bureau.score for general: 620 -> 610"]
    forged = await approver.post(
        f"{DRAFTS}/{draft['draft_id']}/approve", json=_approval(secrets["policy-author"], draft)
    )
    assert forged.status_code == 403
    approved = await approver.post(
        f"{DRAFTS}/{draft['draft_id']}/approve", json=_approval(secrets["policy-approver"], draft)
    )
    assert approved.status_code == 200, approved.text
    assert (approved.json()["state"], approved.json()["version"]) == ("active", 2)

    await governed.app.gate.keeper.refresh(10)
    decided = await (await governed.client("origination")).post("/v1/decisions", json=application("bundled"))
    bundle = await (await governed.client("analyst")).get(f"/v1/decisions/{decided.json()['decision_id']}/bundle")
    assert bundle.status_code == 200, bundle.text
    found = bundle.json()
    assert found["approval"]["way"] == "two-persons"
    assert found["approval"]["draft"]["approved_by"] == "demo-policy-approver"
    assert [each["act"] for each in found["approval"]["signatures"]] == ["submit", "approve"]
    assert found["policy"]["differences_to_active"] == []
    assert {row["action"] for row in found["audit"]} >= {"draft.approve", "policy.publish", "channel.register"}
    assert found["decision"]["input"]["application_id"] == "bundled"


async def test_a_role_of_the_caller_is_asked_for_besides_the_signature(
    governed: Service, secrets: dict[str, str]
) -> None:
    author = await governed.client("policy-author")
    draft = await _submitted(author, secrets["policy-author"])
    for who in ("policy-author", "admin", "analyst"):
        client = await governed.client(who)
        refused = await client.post(
            f"{DRAFTS}/{draft['draft_id']}/approve", json=_approval(secrets["policy-approver"], draft)
        )
        assert refused.status_code == 403


async def test_amending_a_draft_names_the_revision_that_was_read(governed: Service, secrets: dict[str, str]) -> None:
    author = await governed.client("policy-author")
    written = await author.post(DRAFTS, json=_changed())
    location = written.headers["location"]
    assert (await author.put(location, json=_changed(600))).status_code == 428
    assert (await author.put(location, json=_changed(600), headers={"If-Match": '"9"'})).status_code == 412
    amended = await author.put(location, json=_changed(600), headers={"If-Match": written.headers["etag"]})
    assert (amended.status_code, amended.headers["etag"]) == (200, '"2"')
    assert (await author.get(location)).json()["document"] == amended.json()["document"]


async def test_one_person_breaks_the_glass_and_it_is_listed(governed: Service, secrets: dict[str, str]) -> None:
    author = await governed.client("policy-author")
    written = (await author.post(DRAFTS, json=_changed())).json()
    end = datetime.now(UTC) + timedelta(hours=1)
    opened = await author.post(
        "/v1/break-glass",
        json={
            "draft_id": written["draft_id"],
            "expires_at": end.isoformat(),
            "reason": "outage",
            "nonce": NONCE,
            "proof": _proof(
                secrets["policy-author"], "break-glass", "policy", digest=bytes.fromhex(written["digest"]), moment=end
            ),
        },
    )
    assert opened.status_code == 201, opened.text
    (listed,) = (await author.get("/v1/break-glass")).json()["items"]
    assert (listed["state"], listed["version"], listed["person_id"]) == ("open", 2, "demo-policy-author")
    await governed.app.gate.upkeep.tick()
    metrics = await (await governed.client(None)).get("/metrics")
    assert "gate_break_glass_active 1.0" in metrics.text


async def test_a_channel_goes_up_by_a_change_request_alone(governed: Service, secrets: dict[str, str]) -> None:
    admin, approver = await governed.client("admin"), await governed.client("policy-approver")
    alone = await admin.post("/v1/channels/campus-group/state", json={"state": "probation", "reason": "good"})
    assert alone.status_code == 403
    wanted = {"kind": "channel.state", "channel": "campus-group", "before": "proposed", "after": "probation"}
    payload = b'{"from":"proposed","to":"probation"}'
    digest = sha256(payload).digest()
    proof = _proof(secrets["admin"], "request", "channel.state:campus-group", digest=digest)
    asked = await admin.post("/v1/change-requests", json=wanted | {"reason": "good", "nonce": NONCE, "proof": proof})
    assert asked.status_code == 201, asked.text
    number = asked.json()["change_id"]
    approved = await approver.post(
        f"/v1/change-requests/{number}/approve",
        json={
            "payload_digest": asked.json()["digest"],
            "proof": _proof(secrets["policy-approver"], "approve", f"request/{number}", digest=digest),
        },
    )
    assert (approved.status_code, approved.json()["state"]) == (200, "applied")
    assert (await admin.get("/v1/channels/campus-group")).json()["state"] == "probation"


async def test_the_audit_log_is_read_in_pages(governed: Service) -> None:
    analyst = await governed.client("analyst")
    first = (await analyst.get("/v1/audit", params={"limit": 2})).json()
    second = (await analyst.get("/v1/audit", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [row["sequence"] for row in (*first["items"], *second["items"])] == [1, 2, 3, 4]
    assert second["items"][0]["previous_hash"] == first["items"][1]["hash"]
    assert (await (await governed.client("origination")).get("/v1/audit")).status_code == 403


async def test_one_request_brings_a_version_back(service: Service) -> None:
    author = await service.client("policy-author")
    await author.post("/v1/policies", json=_changed())
    answer = await author.post("/v1/policies/rollbacks", json={"version": 1, "comment": "too loose"})
    assert answer.status_code in {200, 202}, answer.text
    assert (answer.json()["version"], answer.json()["changed"]) == (3, True)
    assert [each["text"] for each in answer.json()["differences"]] == ["BU03 bureau.score for general: 610 -> 620"]
    unknown = await author.post("/v1/policies/rollbacks", json={"version": 9, "comment": "x"})
    assert unknown.status_code == 404


async def test_where_two_persons_decide_one_request_puts_the_old_version_up_for_review(
    governed: Service, secrets: dict[str, str]
) -> None:
    author = await governed.client("policy-author")
    wanted = {"version": 1, "comment": "too loose"}
    unsigned = await author.post("/v1/policies/rollbacks", json=wanted)
    assert (unsigned.status_code, unsigned.json()["errors"][0]["pointer"]) == (422, "/proof")
    active = (await author.get("/v1/policies/1")).json()
    proof = _proof(secrets["policy-author"], "submit", "policy", digest=bytes.fromhex(active["digest"]))
    signed = await author.post("/v1/policies/rollbacks", json=wanted | {"nonce": NONCE, "proof": proof})
    assert signed.status_code == 201, signed.text
    assert (signed.json()["state"], signed.json()["repeats_version"]) == ("in_review", 1)
    assert (await author.get("/v1/policies/active")).json()["version"] == 1


async def test_what_applications_of_late_never_carried_is_a_warning_to_acknowledge(
    governed: Service, secrets: dict[str, str]
) -> None:
    async with opened(governed.database) as log:
        for _ in range(100):  # of these, lint speaks; they carry the reference of the applicant alone
            await log.decide(datetime.now(UTC) - timedelta(hours=1))
    author, approver = await governed.client("policy-author"), await governed.client("policy-approver")
    draft = await _submitted(author, secrets["policy-author"])
    assert "L15-field-not-carried" in draft["warnings"]
    assert any(each.startswith("warning L15-field-not-carried BU03") for each in draft["findings"])
    path = f"{DRAFTS}/{draft['draft_id']}/approve"
    without = draft | {"warnings": [code for code in draft["warnings"] if code != "L15-field-not-carried"]}
    refused = await approver.post(path, json=_approval(secrets["policy-approver"], without))
    assert (refused.status_code, "acknowledges every warning" in refused.text) == (422, True)
    unsigned = _approval(secrets["policy-approver"], without) | {"acknowledged_warnings": draft["warnings"]}
    assert (await approver.post(path, json=unsigned)).status_code == 403
    approved = await approver.post(path, json=_approval(secrets["policy-approver"], draft))
    assert approved.json()["acknowledged_warnings"] == draft["warnings"]


async def test_two_versions_are_compared_in_words(service: Service) -> None:
    author = await service.client("policy-author")
    await author.post("/v1/policies", json=_changed())
    found = (await author.get("/v1/policies/1/differences/2")).json()
    assert [each["text"] for each in found["differences"]] == ["BU03 bureau.score for general: 620 -> 610"]
    assert (await author.get("/v1/policies/1/differences/9")).status_code == 404
