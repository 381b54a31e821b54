"""Decisions read back over HTTP: who sees what, in which words, on which page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from jsonschema import Draft202012Validator

from app.api.examples import APPLICATION
from app.db.changes import Change
from app.identities import keys
from app.identities.principal import Role
from app.screening.explanation import SOURCE_NAMES
from tests.support.cluster import SEEDED_TEMPLATE, Cluster
from tests.support.service import Service, running_service

CHANGE = Change(actor="test", request_id="test")
STAFF = ("analyst", "reviewer", "admin")
CONFIDENTIAL = "FR01"


SUSPICIOUS = {"device__ids_on_device_24h": 5, "bureau__history_months": 3, "channel_code": "broker-one"}
"""Fails the confidential FR01, and BU02 for the risk tier."""


@pytest.fixture(scope="module")
async def service(cluster: Cluster) -> AsyncIterator[Service]:
    database = await cluster.create(SEEDED_TEMPLATE)
    governance = await asyncpg.connect(database.governance)
    await keys.register_originator(governance, code="other", name="Other", change=CHANGE)
    texts = dict(database.keys)
    for label, roles, originator in (
        ("other", [Role.ORIGINATION], "other"),
        ("analyst-of-other", [Role.ANALYST], "other"),
        ("analyst-and-origination", [Role.ANALYST, Role.ORIGINATION], "demo-origination"),
    ):
        issued = await keys.issue(governance, label=label, roles=roles, originator_code=originator, change=CHANGE)
        texts[label] = issued.text
    await governance.close()
    async with running_service(database, texts) as service:
        yield service
    await cluster.drop(database)


# Who sees what --------------------------------------------------------------------------------------------------------


async def test_origination_reads_the_bytes_that_were_answered(service: Service) -> None:
    answer = await service.decide("bytes", **SUSPICIOUS)
    decision_id = answer.json()["decision_id"]
    by_id = await service.get("origination", f"/v1/decisions/{decision_id}")
    by_application = await service.get("origination", "/v1/applications/bytes/revisions/1/decision")
    assert by_id.content == by_application.content == answer.content
    assert CONFIDENTIAL not in by_id.text
    assert by_id.headers["cache-control"] == "no-store"


async def test_another_originators_decision_is_not_found_whatever_is_asked(service: Service) -> None:
    decision_id = (await service.decide("mine")).json()["decision_id"]
    never = "01a20d00-0000-7000-8000-000000000000"
    for who in ("other", "analyst-of-other"):
        theirs = await service.get(who, f"/v1/decisions/{decision_id}")
        nobodys = await service.get(who, f"/v1/decisions/{never}")
        assert theirs.status_code == 404
        assert {**theirs.json(), "instance": ""} == {**nobodys.json(), "instance": ""}
        assert (await service.get(who, f"/v1/decisions/{decision_id}/explanation")).status_code == 404
        assert (await service.get(who, "/v1/applications/mine/revisions/1/decision")).status_code == 404
        path = "/v1/applications/mine/revisions/latest/decision"
        assert (await service.get(who, path, originator="demo-origination")).status_code == 404
        for query in ({}, {"originator": "demo-origination"}):
            listed = await service.get(who, "/v1/decisions", **query)
            assert [item for item in listed.json()["items"] if item["application_id"] == "mine"] == []


@pytest.mark.parametrize("who", STAFF)
async def test_staff_sees_all_that_is_stored_and_what_other_tiers_would_have_said(service: Service, who: str) -> None:
    answer = await service.decide(f"whole-{who}", channel_code="broker-one", bureau__score=650)
    detail = (await service.get(who, f"/v1/decisions/{answer.json()['decision_id']}")).json()
    assert detail["response"] == answer.json()
    assert detail["originator"] == "demo-origination"
    reason = detail["record"]["reasons"][0]
    assert (reason["code"], reason["observed"], reason["threshold"]) == ("BU03", 650, 680)
    assert detail["input"]["applicant"]["monthly_income"] == APPLICATION["applicant"]["monthly_income"]
    assert detail["outcomes_by_tier"]["risk"] == detail["outcome"] == "reject"
    assert detail["outcomes_by_tier"]["prime"] == "accept"
    assert list(detail["outcomes_by_tier"]) == ["prime", "general", "risk"]
    assert detail["tier_decisive"] is True
    assert detail["erased_at"] is None


async def test_a_tier_that_made_no_difference_is_not_decisive(service: Service) -> None:
    answer = await service.decide("indifferent", bureau__current_dpd_own=10)
    detail = (await service.get("analyst", f"/v1/decisions/{answer.json()['decision_id']}")).json()
    assert set(detail["outcomes_by_tier"].values()) == {"reject"}
    assert detail["tier_decisive"] is False


async def test_confidential_codes_are_for_staff(service: Service) -> None:
    decision_id = (await service.decide("secret", **SUSPICIOUS)).json()["decision_id"]
    for path in (f"/v1/decisions/{decision_id}", f"/v1/decisions/{decision_id}/explanation"):
        assert CONFIDENTIAL not in (await service.get("origination", path)).text
        assert CONFIDENTIAL in (await service.get("reviewer", path)).text
    assert CONFIDENTIAL not in (await service.get("origination", "/v1/decisions", limit=200)).text
    assert CONFIDENTIAL in (await service.get("reviewer", "/v1/decisions", limit=200)).text


async def test_a_filter_does_not_tell_origination_what_a_confidential_rule_found(service: Service) -> None:
    await service.decide("probed", **SUSPICIOUS)
    hidden = await service.get("origination", "/v1/decisions", reason_code=CONFIDENTIAL)
    assert hidden.json() == {"items": [], "next_cursor": None}
    for who, code in (("analyst", CONFIDENTIAL), ("origination", "BU02")):
        found = await service.get(who, "/v1/decisions", reason_code=code)
        assert "probed" in {item["application_id"] for item in found.json()["items"]}


async def test_a_caller_with_both_roles_sees_everything_of_its_originator(service: Service) -> None:
    decision_id = (await service.decide("both")).json()["decision_id"]
    detail = await service.get("analyst-and-origination", f"/v1/decisions/{decision_id}")
    assert detail.json()["record"]["engine"]
    assert (
        await service.get("analyst-and-origination", "/v1/applications/both/revisions/1/decision")
    ).status_code == 200


@pytest.mark.parametrize(("who", "status"), [(None, 401), ("policy-author", 403), ("policy-approver", 403)])
async def test_others_are_refused(service: Service, who: str | None, status: int) -> None:
    decision_id = "01a20d00-0000-7000-8000-000000000000"
    for path in (
        "/v1/decisions",
        f"/v1/decisions/{decision_id}",
        f"/v1/decisions/{decision_id}/explanation",
        "/v1/applications/A-1/revisions/1/decision",
    ):
        refused = await service.get(who, path)
        assert refused.status_code == status
        assert refused.headers["content-type"] == "application/problem+json"


# By application -------------------------------------------------------------------------------------------------------


async def test_an_application_is_read_by_revision_and_as_the_latest(service: Service) -> None:
    first = await service.decide("amended", amount=5_000_000)
    second = await service.decide("amended", amount=4_000_000, revision=2)
    path = "/v1/applications/amended/revisions/{}/decision"
    for revision, answer in ((1, first), (2, second), ("latest", second)):
        read = await service.get("origination", path.format(revision))
        assert read.content == answer.content
    assert (await service.get("origination", path.format(3))).status_code == 404
    for wrong in ("0", "11", "newest", "1.5"):
        assert (await service.get("origination", path.format(wrong))).status_code == 422


async def test_staff_without_an_originator_names_one(service: Service) -> None:
    await service.decide("named")
    path = "/v1/applications/named/revisions/latest/decision"
    unnamed = await service.get("analyst", path)
    assert unnamed.status_code == 422
    assert unnamed.json()["errors"][0]["pointer"] == "#/query/originator"
    assert (await service.get("analyst", path, originator="demo-origination")).json()["application_id"] == "named"
    for nobody in ("other", "nobody"):
        assert (await service.get("analyst", path, originator=nobody)).status_code == 404


async def test_an_application_id_may_hold_a_slash(service: Service) -> None:
    answer = await service.decide("2026/11/24/A=1")
    read = await service.get("origination", "/v1/applications/2026%2F11%2F24%2FA=1/revisions/1/decision")
    assert read.content == answer.content


# Lists ----------------------------------------------------------------------------------------------------------------


async def test_pages_of_an_originator_hold_its_decisions_once_and_only_them(service: Service) -> None:
    answers = [(await service.decide(f"page-{i}", who="other")).json() for i in range(5)]
    items: list[dict[str, Any]] = []
    query: dict[str, Any] = {"limit": 2}
    while True:
        page = (await service.get("other", "/v1/decisions", **query)).json()
        items += page["items"]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert items == answers[::-1]
    everyone = (await service.get("analyst", "/v1/decisions", originator="other")).json()["items"]
    assert [item["application_id"] for item in everyone] == [f"page-{i}" for i in (4, 3, 2, 1, 0)]
    assert {item["originator"] for item in everyone} == {"other"}


async def test_filters_of_the_list_are_those_of_the_decision(service: Service) -> None:
    before = datetime.now(UTC)
    await service.decide("filtered", channel_code="broker-one", bureau__score=650)
    own = {"decided_from": before.isoformat(), "channel": "broker-one"}
    fitting: dict[str, Any] = {
        "outcome": "reject",
        "next_action": "decline",
        "tier": "risk",
        "product": "unsecured_consumer",
        "policy_version": 1,
        "reason_code": "BU03",
    }
    found = await service.get("origination", "/v1/decisions", **own, **fitting)
    assert [item["application_id"] for item in found.json()["items"]] == ["filtered"]
    others = ("accept", "review", "prime", "small_business", 2, "BU08")
    for name, other in zip(fitting, others, strict=True):
        narrowed = await service.get("origination", "/v1/decisions", **own, **{**fitting, name: other})
        assert narrowed.json()["items"] == [], name
    late = await service.get("origination", "/v1/decisions", decided_to=before.isoformat(), **fitting)
    assert "filtered" not in {item["application_id"] for item in late.json()["items"]}


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({"limit": 0}, "#/query/limit"),
        ({"limit": 201}, "#/query/limit"),
        ({"outcome": "maybe"}, "#/query/outcome"),
        ({"decided_from": "2026-11-24T10:00:00"}, "#/query/decided_from"),
        ({"decided_from": "1795514400"}, "#/query/decided_from"),
        ({"decided_to": "0.5"}, "#/query/decided_to"),
        ({"decided_from": "0001-01-01T00:00:00+14:00"}, "#/query/decided_from"),
        ({"decided_to": "9999-12-31T23:59:59-14:00"}, "#/query/decided_to"),
        ({"reason_code": "bu03"}, "#/query/reason_code"),
        ({"cursor": "nonsense"}, "#/query/cursor"),
        ({"applicant_ref": "p-1"}, "#/query/applicant_ref"),
    ],
)
async def test_a_filter_that_cannot_be_is_refused_by_name(
    service: Service, query: dict[str, Any], pointer: str
) -> None:
    refused = await service.get("analyst", "/v1/decisions", **query)
    assert refused.status_code == 422
    assert [error["pointer"] for error in refused.json()["errors"]] == [pointer]


async def test_a_cursor_belongs_to_its_filters_and_its_originator(service: Service) -> None:
    for i in range(2):
        await service.decide(f"cursor-{i}")
    page = (await service.get("origination", "/v1/decisions", limit=1, tier="prime")).json()
    cursor = page["next_cursor"]
    assert (await service.get("origination", "/v1/decisions", limit=1, tier="prime", cursor=cursor)).status_code == 200
    assert (await service.get("origination", "/v1/decisions", limit=1, cursor=cursor)).status_code == 422
    assert (await service.get("other", "/v1/decisions", limit=1, tier="prime", cursor=cursor)).status_code == 422


# In words -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "preferred", "language"),
    [(1, None, "en"), (2, "zh-CN", "zh-CN"), (3, "en;q=0.3, zh;q=0.8", "zh-CN"), (4, "fr, de;q=0.9", "en")],
)
async def test_an_explanation_speaks_the_language_that_is_preferred(
    service: Service, case: int, preferred: str | None, language: str
) -> None:
    decision_id = (await service.decide(f"spoken-{case}", bureau__score=500)).json()["decision_id"]
    headers = {} if preferred is None else {"Accept-Language": preferred}
    explained = await service.get("origination", f"/v1/decisions/{decision_id}/explanation", headers)
    assert explained.headers["content-language"] == language
    assert {part.strip() for part in explained.headers["vary"].split(",")} == {"Accept-Language", "Authorization"}
    document = explained.json()
    reason = document["principal_reasons"][0]
    assert reason["code"] == "BU03"
    source = SOURCE_NAMES["bureau"]
    assert reason["data_source"] == {"code": "bureau", "name": source.zh if language == "zh-CN" else source.en}
    assert ("信用" in document["notice"]) == (language == "zh-CN")
    assert decision_id in document["rights"]["contest"]


async def test_an_explanation_names_the_caps_and_the_counter_offer(service: Service) -> None:
    answer = (await service.decide("offered", channel_code="broker-one")).json()
    assert answer["next_action"] == "counter_offer"
    path = f"/v1/decisions/{answer['decision_id']}/explanation"
    shown = (await service.get("origination", path)).json()
    assert shown["counter_offer"]["amount"] == answer["counter_offer"]["amount"]
    assert "CNY 30,000.00" in shown["counter_offer"]["text"]
    assert shown["counter_offer"]["text"] in shown["notice"]
    assert shown["ceiling"]["amount"] == answer["ceiling"]["amount"]
    assert [cap["cap"] for cap in shown["ceiling"]["caps"] if cap["binding"]] == ["tier_cap"]
    assert all("amount" not in cap for cap in shown["ceiling"]["caps"])
    assert all("threshold" not in reason for reason in shown["principal_reasons"])
    whole = (await service.get("analyst", path)).json()
    assert {cap["cap"]: cap["amount"] for cap in whole["ceiling"]["caps"]}["tier_cap"] == 3_000_000
    assert whole["principal_reasons"][0]["threshold"] == 3_000_000
    assert whole["tier"] == {"code": "risk", "name": "Risk"}


async def test_an_explanation_says_why_a_cap_did_not_apply(service: Service) -> None:
    answer = (await service.decide("unproven", applicant__monthly_income=None)).json()
    assert answer["ceiling"] is None
    shown = (await service.get("origination", f"/v1/decisions/{answer['decision_id']}/explanation")).json()
    assert shown["ceiling"]["amount"] is None
    assert shown["ceiling"]["stands"] is False
    not_applied = {cap["cap"]: cap["why_not"] for cap in shown["ceiling"]["caps"] if not cap["applied"]}
    assert not_applied == {
        "income_multiple": "monthly income was not given",
        "dti": "monthly income was not given",
    }
    assert shown["due_at"] == answer["due_at"]
    assert shown["due_at"][:10] in shown["notice"]


async def test_reasons_beyond_the_principal_ones_are_for_staff(service: Service) -> None:
    many = {"bureau__score": 500, "bureau__current_dpd_own": 40, "bureau__open_judgment": True}
    many |= {"bureau__max_dpd_12m": 120, "bureau__active_lenders": 9, "bureau__inquiries_3m": 20}
    answer = (await service.decide("many", **many)).json()
    path = f"/v1/decisions/{answer['decision_id']}/explanation"
    shown = (await service.get("origination", path)).json()
    assert (len(shown["principal_reasons"]), shown["other_reasons"]) == (4, [])
    whole = (await service.get("analyst", path)).json()
    assert [reason["code"] for reason in whole["principal_reasons"]] == [reason["code"] for reason in answer["reasons"]]
    assert "BU06" in {reason["code"] for reason in whole["other_reasons"]}


async def test_what_was_erased_says_so(service: Service) -> None:
    answer = await service.decide("erased", bureau__score=500, applicant__applicant_ref="p-to-be-erased")
    decision_id = answer.json()["decision_id"]
    governance = await asyncpg.connect(service.database.governance)
    await governance.fetch(
        "SELECT * FROM gate.person_erase('p-to-be-erased', 'ordered', 25, 12, 'an order of the court', 'test', 'test')"
    )
    await governance.close()
    detail = (await service.get("admin", f"/v1/decisions/{decision_id}")).json()
    assert (detail["input"], detail["record"]) == (None, None)
    assert (detail["outcomes_by_tier"], detail["tier_decisive"]) == (None, None)
    assert detail["erased_at"] is not None
    assert detail["reason_codes"] == ["BU03"]
    assert (await service.get("origination", f"/v1/decisions/{decision_id}")).content == answer.content
    for who in ("origination", "analyst"):
        explained = (await service.get(who, f"/v1/decisions/{decision_id}/explanation")).json()
        assert explained["erased_at"] == detail["erased_at"]
        assert explained["ceiling"] is None
        assert [reason["code"] for reason in explained["principal_reasons"]] == ["BU03"]


# The document ---------------------------------------------------------------------------------------------------------


async def test_examples_and_answers_fit_the_openapi_document(service: Service) -> None:
    document = (await service.get(None, "/openapi.json")).json()
    decision_id = (await service.decide("documented", **SUSPICIOUS)).json()["decision_id"]
    requests = {
        "/v1/decisions": "/v1/decisions",
        "/v1/decisions/{decision_id}": f"/v1/decisions/{decision_id}",
        "/v1/decisions/{decision_id}/explanation": f"/v1/decisions/{decision_id}/explanation",
    }
    for path, request in requests.items():
        content = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]
        validator = Draft202012Validator({**content["schema"], "components": document["components"]})
        answers = [(await service.get(who, request)).json() for who in ("origination", "analyst")]
        examples = [example["value"] for example in content["examples"].values()]
        assert len(examples) == 2
        for value in (*examples, *answers):
            validator.validate(value)
