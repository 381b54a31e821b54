"""Policies over HTTP: checked, published whole or by one threshold, read back with their tags."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
import yaml

from app.policies.defaults import default_policy
from tests.api.conftest import Service, StartService

PATH = "/v1/policies"
SCORE = f"{PATH}/active/rules/BU03/thresholds/general"


def _changed(score: int = 610) -> dict[str, Any]:
    document = default_policy()
    next(rule for rule in document["rules"] if rule["code"] == "BU03")["thresholds"]["general"] = score
    return document


@pytest.fixture
async def author(service: Service) -> httpx.AsyncClient:
    return await service.client("policy-author")


async def test_a_whole_policy_is_published_and_served(author: httpx.AsyncClient) -> None:
    published = await author.post(PATH, json=_changed(), params={"wait": 10, "comment": "looser"})
    assert published.status_code == 200, published.text
    answer = published.json()
    assert (answer["version"], answer["based_on"], answer["mode"], answer["changed"]) == (2, 1, "single-person", True)
    assert [difference["text"] for difference in answer["differences"]] == ["BU03 bureau.score for general: 620 -> 610"]
    assert answer["rollout"]["confirmed"]
    assert answer["rollout"]["live_workers"] == 1
    assert (published.headers["etag"], published.headers["location"]) == ('"2"', "/v1/policies/2")

    active = await author.get(f"{PATH}/active")
    assert active.json()["document"]["rules"] == (await author.get(f"{PATH}/2")).json()["document"]["rules"]
    assert active.json()["comment"] == "looser"
    listed = (await author.get(PATH)).json()
    assert listed["active_version"] == 2
    assert [(each["version"], each["active"]) for each in listed["items"]] == [(2, True), (1, False)]


async def test_a_yaml_body_is_the_same_policy(author: httpx.AsyncClient) -> None:
    text = yaml.safe_dump(default_policy(), allow_unicode=True)
    again = await author.post(PATH, content=text.encode(), headers={"Content-Type": "application/yaml; charset=utf-8"})
    assert again.status_code in {200, 202}, again.text
    assert (again.json()["version"], again.json()["changed"]) == (1, False)


async def test_a_publish_whose_answer_was_lost_can_be_repeated(author: httpx.AsyncClient) -> None:
    versions = [(await author.post(PATH, json=_changed())).json()["version"] for _ in range(2)]
    assert versions == [2, 2]


async def test_a_publish_that_is_not_confirmed_says_who_is_pending(service: Service, author: httpx.AsyncClient) -> None:
    await service.app.gate.keeper.stop()  # takes the worker off the registry; a stuck one stays on it
    async with service.app.gate.read_engine.begin() as connection:
        await connection.exec_driver_sql(
            "SELECT gate.worker_beat('00000000-0000-0000-0000-000000000001', 'stuck', 7, 'e', now(), 0, 1, '1 hour')"
        )
    published = await author.post(PATH, json=_changed(), params={"wait": 0.2})
    assert published.status_code == 202, published.text
    rollout = published.json()["rollout"]
    assert not rollout["confirmed"]
    assert [(worker["host"], worker["pid"]) for worker in rollout["pending"]] == [("stuck", 7)]


async def test_every_fault_is_told_by_row_and_column_and_nothing_is_stored(author: httpx.AsyncClient) -> None:
    document = default_policy()
    rules = {rule["code"]: rule for rule in document["rules"]}
    rules["BU03"]["thresholds"]["general"] = "high"
    rules["BU04"]["field"] = "bureau.mood"
    del rules["EM01"]["thresholds"]["risk"]
    for path in (PATH, f"{PATH}/validate"):
        refused = await author.post(path, json=document)
        assert refused.status_code == 422
        assert refused.json()["type"] == "urn:channel-gate:problem:invalid-policy"
        faults = {(error["row"], error["column"]) for error in refused.json()["errors"]}
        assert faults >= {("BU03", "thresholds.general"), ("BU04", "field"), ("EM01", "thresholds.risk")}
        assert {row for row, _ in faults} == {"BU03", "BU04", "EM01"}
    assert (await author.get(PATH)).json()["active_version"] == 1


NO_POLICIES: list[tuple[bytes, str, int, str]] = [
    (b"{", "application/json", 422, "invalid-policy"),
    (b"[]", "application/json", 422, "invalid-policy"),
    (b"{}", "application/json", 422, "invalid-policy"),
    (b'{"a":1,"a":2}', "application/json", 422, "invalid-policy"),
    (b"a: &b 1", "application/yaml", 422, "invalid-policy"),
    (b"\xff", "application/yaml", 422, "invalid-policy"),
    (b"{}", "text/plain", 415, "unsupported-media-type"),
    (b"{}", "", 415, "unsupported-media-type"),
    (b" " * (1024 * 1024 + 1), "application/json", 413, "body-too-large"),
]


async def test_a_body_that_is_no_policy_is_refused(author: httpx.AsyncClient) -> None:
    for body, media_type, status, slug in NO_POLICIES:
        for path in (PATH, f"{PATH}/validate"):
            refused = await author.post(path, content=body, headers={"Content-Type": media_type})
            assert refused.status_code == status, refused.text
            assert refused.json()["type"] == f"urn:channel-gate:problem:{slug}"


async def test_validating_says_what_would_change_and_stores_nothing(author: httpx.AsyncClient) -> None:
    valid = (await author.post(f"{PATH}/validate", json=_changed())).json()
    assert (valid["valid"], valid["compared_with"], len(valid["differences"])) == (True, 1, 1)
    assert (await author.get(PATH)).json()["active_version"] == 1


async def test_a_policy_that_decides_its_own_cases_otherwise_is_refused(author: httpx.AsyncClient) -> None:
    for path in (PATH, f"{PATH}/validate"):
        refused = await author.post(path, json=_changed(640))
        assert refused.status_code == 422
        assert {error["row"] for error in refused.json()["errors"]} == {"cases[1]"}
    valid = await author.post(f"{PATH}/validate", json=_changed())
    assert valid.json()["cases"] == {"total": len(default_policy()["cases"]), "failed": []}


async def test_one_threshold_is_changed_on_top_of_the_version_that_was_read(author: httpx.AsyncClient) -> None:
    missing = await author.patch(SCORE, json={"value": 640})
    assert (missing.status_code, missing.json()["type"][-21:]) == (428, "precondition-required")
    for tag in ('"0"', '"2"', '"99999999999"', "1", 'W/"1"'):
        stale = await author.patch(SCORE, json={"value": 640}, headers={"If-Match": tag})
        assert stale.status_code == 412, tag
    done = await author.patch(
        SCORE, json={"value": 640, "comment": "tighter"}, headers={"If-Match": '"1"'}, params={"wait": 10}
    )
    assert done.status_code == 200, done.text
    assert [each["text"] for each in done.json()["differences"]] == ["BU03 bureau.score for general: 620 -> 640"]
    assert {fault["row"] for fault in done.json()["cases"]["failed"]} == {"cases[1]"}
    active = (await author.get(f"{PATH}/active")).json()
    expected = _changed(640)
    found = {rule["code"]: rule["thresholds"] for rule in active["document"]["rules"]}
    assert found == {rule["code"]: rule["thresholds"] for rule in expected["rules"]}
    assert (await author.patch(SCORE, json={"value": 650}, headers={"If-Match": '"1"'})).status_code == 412


THRESHOLDS: list[tuple[str, str, object]] = [
    ("BU03", "null", None),
    ("BU08", "true", True),
    ("IN02", '"tax"', "tax"),
    ("DT01", "49.5", "49.5"),
    ("DT01", '"49.25"', "49.25"),
    ("DT01", "49.0", 49),
    ("IN01", "450000", 450000),
]


async def test_a_threshold_keeps_its_type_and_its_value(author: httpx.AsyncClient) -> None:
    for version, (rule, text, stored) in enumerate(THRESHOLDS, 1):
        headers = {"If-Match": f'"{version}"', "Content-Type": "application/json"}
        path = f"{PATH}/active/rules/{rule}/thresholds/general"
        done = await author.patch(path, content=f'{{"value": {text}}}', headers=headers)
        assert done.status_code in {200, 202}, done.text
        document = (await author.get(f"{PATH}/active")).json()["document"]
        found = next(each for each in document["rules"] if each["code"] == rule)["thresholds"]["general"]
        assert (type(found), found) == (type(stored), stored)


REFUSED: list[tuple[str, object, int]] = [
    ("BU03/thresholds/general", "high", 422),
    ("BU03/thresholds/general", 620.5, 422),
    ("BU03/thresholds/general", [620], 422),
    ("BU03/thresholds/general", {"a": 1}, 422),
    ("CH01/thresholds/general", None, 422),
    ("DT02/thresholds/general", 44, 422),
    ("BU99/thresholds/general", 620, 404),
    ("BU03/thresholds/gold", 620, 404),
    ("IN03/thresholds/general", 620, 404),
    ("bu03/thresholds/general", 620, 422),
]


async def test_a_threshold_that_does_not_compile_is_refused(author: httpx.AsyncClient) -> None:
    for path, value, status in REFUSED:
        refused = await author.patch(f"{PATH}/active/rules/{path}", json={"value": value}, headers={"If-Match": '"1"'})
        assert refused.status_code == status, refused.text
    assert (await author.get(PATH)).json()["active_version"] == 1


async def test_a_threshold_with_more_digits_than_a_float_has_is_refused(author: httpx.AsyncClient) -> None:
    headers = {"If-Match": '"1"', "Content-Type": "application/json"}
    path = f"{PATH}/active/rules/DT01/thresholds/general"
    for text in ("24.0000000000000001", "1e-400", "NaN", "1e999999999999999999999"):
        refused = await author.patch(path, content=f'{{"value": {text}}}', headers=headers)
        assert refused.status_code == 422, refused.text
    assert (await author.get(PATH)).json()["active_version"] == 1


async def test_of_concurrent_changes_with_one_tag_exactly_one_is_published(author: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(
        *(author.patch(SCORE, json={"value": 600 + n}, headers={"If-Match": '"1"'}) for n in range(12))
    )
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses[0] in {200, 202}
    assert statuses[1:] == [412] * 11
    whole = await asyncio.gather(
        *(author.post(PATH, json=_changed(590 - n), headers={"If-Match": '"2"'}) for n in range(6))
    )
    assert sorted(answer.status_code for answer in whole)[1:] == [412] * 5


async def test_a_reader_that_holds_the_version_gets_a_304(author: httpx.AsyncClient) -> None:
    first = await author.get(f"{PATH}/active")
    assert first.headers["etag"] == '"1"'
    for path in ("active", "1"):
        for tag in ('"1"', 'W/"1"', '"0", "1"', "*"):
            held = await author.get(f"{PATH}/{path}", headers={"If-None-Match": tag})
            assert (held.status_code, held.content, held.headers["etag"]) == (304, b"", '"1"')
    await author.post(PATH, json=_changed())
    changed = await author.get(f"{PATH}/active", headers={"If-None-Match": '"1"'})
    assert (changed.status_code, changed.headers["etag"]) == (200, '"2"')
    old = await author.get(f"{PATH}/1")
    assert old.json() == first.json()
    for absent, status in (("3", 404), ("2147483647", 404), ("2147483648", 422), ("0", 422), ("x", 404)):
        assert (await author.get(f"{PATH}/{absent}")).status_code == status


async def test_versions_are_paged_newest_first(author: httpx.AsyncClient) -> None:
    for score in (615, 610, 605):
        await author.post(PATH, json=_changed(score))
    first = (await author.get(PATH, params={"limit": 2})).json()
    second = (await author.get(PATH, params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [each["version"] for each in first["items"] + second["items"]] == [4, 3, 2, 1]
    assert second["next_cursor"] is None
    refused = await author.get(PATH, params={"cursor": "!"})
    assert refused.status_code == 422


async def test_thresholds_are_hidden_from_origination_and_publishing_takes_an_author(service: Service) -> None:
    origination = await service.client("origination")
    for path in (PATH, f"{PATH}/active", f"{PATH}/1"):
        assert (await origination.get(path)).status_code == 403
    assert (await origination.post(f"{PATH}/validate", json=default_policy())).status_code == 403
    for role in ("analyst", "reviewer", "policy-approver", "origination"):
        client = await service.client(role)
        assert (await client.post(PATH, json=_changed())).status_code == 403
        assert (await client.patch(SCORE, json={"value": 1}, headers={"If-Match": '"1"'})).status_code == 403
    for role in ("analyst", "reviewer", "policy-approver"):
        assert (await (await service.client(role)).get(f"{PATH}/active")).status_code == 200
    admin = await service.client("admin")
    assert (await admin.post(PATH, json=_changed())).status_code in {200, 202}


async def test_where_single_person_mode_is_off_publishing_makes_a_draft(start_service: StartService) -> None:
    service = await start_service(single_person_mode=False)
    admin = await service.client("admin")
    for number, written in enumerate(
        (
            await admin.post(PATH, json=_changed()),
            await admin.patch(SCORE, json={"value": 640}, headers={"If-Match": '"1"'}),
        ),
        start=1,
    ):
        assert written.status_code == 201, written.text
        assert (written.json()["state"], written.headers["location"]) == ("draft", f"{PATH}/drafts/{number}")
    assert (await admin.post(f"{PATH}/validate", json=_changed())).status_code == 200
    assert (await admin.get(PATH)).json()["active_version"] == 1
