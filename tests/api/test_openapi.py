"""The OpenAPI document: valid, whole, stable, and served as the code has it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import schemathesis

from app.api.problems import ProblemType
from tests.api.openapi import DOCUMENT, operations
from tests.support.service import Service

pytestmark = pytest.mark.xdist_group("edge")

OPERATION_IDS = {
    "amend_channel",
    "assign_tier",
    "change_threshold",
    "decide",
    "decide_batch",
    "exposition",
    "get_active_policy",
    "get_channel",
    "get_policies",
    "get_policy",
    "get_rollout",
    "get_tiers",
    "list_channels",
    "list_decisions",
    "livez",
    "move_channel",
    "named_list",
    "publish_policy",
    "put_alias",
    "read_decision",
    "read_decision_of_application",
    "read_explanation",
    "readyz",
    "register_channel",
    "remove_alias",
    "validate_policy",
}
"""Generated clients name their methods after these: to change one breaks them."""
_OPEN = {"/livez", "/readyz", "/metrics"}
_EVERY_PROBLEM = {"400", "401", "403", "422", "429", "500", "503"}


def test_the_document_is_valid_openapi_3_1() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")
    schemathesis.openapi.from_dict(DOCUMENT).validate()
    for name, schema in DOCUMENT["components"]["schemas"].items():
        assert re.fullmatch(r"[A-Za-z]+", name)
        jsonschema.Draft202012Validator.check_schema(schema)


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from (value for key, value in node.items() if key == "$ref" and isinstance(value, str))
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def test_every_reference_leads_somewhere_and_every_schema_is_used() -> None:
    found = {reference.removeprefix("#/components/schemas/") for reference in _references(DOCUMENT)}
    assert found == set(DOCUMENT["components"]["schemas"])


def test_the_served_document_is_that_of_the_code(edge_document: dict[str, Any]) -> None:
    assert edge_document == DOCUMENT


@pytest.fixture
async def edge_document(gate: Service) -> dict[str, Any]:
    answer = await gate.get(None, "/openapi.json")
    assert answer.status_code == 200
    document: dict[str, Any] = answer.json()
    return document


def test_operation_ids_stay_as_they_are() -> None:
    ids = [operation["operationId"] for _, _, operation in operations()]
    assert len(ids) == len(set(ids))
    assert set(ids) >= OPERATION_IDS


@pytest.mark.parametrize(("method", "path", "operation"), operations())
def test_an_operation_says_what_it_does_and_how_it_fails(method: str, path: str, operation: dict[str, Any]) -> None:
    assert operation["summary"]
    assert operation["description"] or path in _OPEN
    assert len(operation["tags"]) == 1
    assert all(response["description"] for response in operation["responses"].values())
    if path in _OPEN:
        assert "security" not in operation
        return
    assert operation["security"] == [{"apiKey": []}, {"bearerToken": []}]
    assert set(operation["responses"]) >= _EVERY_PROBLEM
    if "{" in path:
        assert "404" in operation["responses"]
    if "requestBody" in operation and path != "/v1/decisions/batch":
        assert "413" in operation["responses"]
    for status, response in operation["responses"].items():
        if int(status) >= 400:
            (content,) = response["content"].items()
            assert content[0] == "application/problem+json"
            assert content[1]["schema"] == {"$ref": "#/components/schemas/Problem"}
            for slug, example in content[1]["examples"].items():
                assert example["value"]["status"] == int(status)
                assert example["value"]["type"] == f"urn:channel-gate:problem:{slug}"
    assert method in {"GET", "POST", "PUT", "PATCH", "DELETE"}


def test_every_problem_belongs_to_some_operation() -> None:
    """Those of no operation are answers to what names none: another path or method."""
    told = {
        slug
        for _, _, operation in operations()
        for status, response in operation["responses"].items()
        if int(status) >= 400
        for slug in response["content"]["application/problem+json"]["examples"]
    }
    everywhere = {ProblemType.METHOD_NOT_ALLOWED.slug}
    assert told == {each.slug for each in ProblemType} - everywhere


def test_parameters_are_described_by_type_and_bounded() -> None:
    for method, path, operation in operations():
        for parameter in operation.get("parameters", ()):
            schema = parameter["schema"]
            branches = [branch for branch in schema.get("anyOf", [schema]) if branch.get("type") != "null"]
            assert all(branch.keys() & {"type", "$ref", "enum", "const"} for branch in branches), (
                f"{method} {path} {parameter['name']}"
            )
            if parameter["in"] == "path":
                assert parameter["required"]


def test_every_list_has_one_form() -> None:
    lists = 0
    for method, path, operation in operations():
        content = operation["responses"].get("200", {}).get("content", {})
        schema = content.get("application/json", {}).get("schema", {})
        shape = DOCUMENT["components"]["schemas"].get(schema.get("$ref", "").rpartition("/")[2], schema)
        properties = shape.get("properties", {})
        names = {parameter["name"] for parameter in operation.get("parameters", ())}
        if method != "GET" or not ({"next_cursor", "items"} & set(properties) or "limit" in names):
            continue
        lists += 1
        assert {each["type"] for each in properties["items"].get("anyOf", [properties["items"]])} == {"array"}, path
        # Events are followed, not paged: their cursor is never used up, and has a name of its own.
        assert ("next_cursor" in properties) == bool(names & {"cursor", "after"}) == ("limit" in names), path
    assert lists >= 10
