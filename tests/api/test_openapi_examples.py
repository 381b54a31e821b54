"""The examples of the OpenAPI document work as they are: what they send is taken, what they answer fits its schema."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from app.api.examples import APPLICATION
from app.api.schemas.decision_examples import ACCEPTED
from tests.api.conftest import Service as OwnService
from tests.api.openapi import DOCUMENT, operations
from tests.support.applications import application
from tests.support.service import Service

pytestmark = pytest.mark.xdist_group("edge")

_ANSWERS = [
    (f"{method} {path} {status} {name}", content, example["value"])
    for method, path, operation in operations()
    for status, response in operation["responses"].items()
    for content in response.get("content", {}).values()
    for name, example in content.get("examples", {}).items()
]


def fits(schema: dict[str, Any], value: object) -> None:
    """Check a value against a schema of the document, formats included."""
    whole = {**schema, "components": DOCUMENT["components"]}
    Draft202012Validator(whole, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(value)


_GOVERNED = (
    *("/v1/policies/drafts", "/v1/policies/rollbacks", "/v1/break-glass", "/v1/change-requests", "/v1/webhooks"),
    *("/v1/reviews", "/v1/decisions/{decision_id}/contest"),
)
"""What is asked for there rests on what exists, and mostly on a signature: no example of it is good for long.

Those of webhooks are sent by `tests/events/test_guide.py`, to a service that has keys for them; those of reviews by
`tests/reviews/test_api.py`, about decisions that were escalated.
"""


def _body_examples(schema: dict[str, Any]) -> list[Any]:
    for choice in ("oneOf", "anyOf"):
        if choice in schema:
            return [example for each in schema[choice] for example in _body_examples(each)]
    if "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    examples: list[Any] = schema.get("examples", [])
    return examples


def request_examples() -> list[tuple[str, str, str, Any]]:
    """Method, path, media type and body of every example of a request."""
    return [
        (method, path, media_type, value)
        for method, path, operation in operations()
        for media_type, content in operation.get("requestBody", {}).get("content", {}).items()
        for value in [
            *(example["value"] for example in content.get("examples", {}).values()),
            *([content["example"]] if "example" in content else []),
            *_body_examples(content["schema"]),
        ]
    ]


@pytest.mark.parametrize(("content", "value"), [each[1:] for each in _ANSWERS], ids=[each[0] for each in _ANSWERS])
def test_an_example_of_an_answer_fits_its_schema(content: dict[str, Any], value: Any) -> None:
    fits(content["schema"], value)


def test_every_request_but_a_whole_policy_has_an_example() -> None:
    shown = {(method, path) for method, path, _, _ in request_examples()}
    bodies = {(method, path): operation.get("requestBody") for method, path, operation in operations()}
    assert [key for key, body in bodies.items() if body and key not in shown and "PolicyBody" not in str(body)] == []


def test_an_example_of_a_governed_request_fits_its_schema() -> None:
    governed = [(method, path, body) for method, path, _, body in request_examples() if path.startswith(_GOVERNED)]
    assert len(governed) > 8
    for method, path, body in governed:
        (content,) = DOCUMENT["paths"][path][method.lower()]["requestBody"]["content"].values()
        fits(content["schema"], body)


async def _opened_budget(client: httpx.AsyncClient) -> int:
    body = {"period": "daily", "measure": "count", "limit": 100, "reason": "an example"}
    number: int = (await client.post("/v1/budgets", json=body)).json()["budget_id"]
    return number


_SENT = [example for example in request_examples() if not example[1].startswith(_GOVERNED)]


@pytest.mark.parametrize(
    ("method", "path", "media_type", "body"), _SENT, ids=[f"{method} {path}" for method, path, _, _ in _SENT]
)
async def test_an_example_of_a_request_is_taken_as_it_is(
    service: OwnService, method: str, path: str, media_type: str, body: Any
) -> None:
    deciding = path.startswith(("/v1/decisions", "/v1/outcomes", "/v1/feeds"))
    client = await service.client("origination" if deciding else "admin")
    number = await _opened_budget(client) if "{budget_id}" in path else 0
    rule = "BU03" if "thresholds" in path else "search-ads"
    target = path.format(code=rule, tier="prime", budget_id=number, feed="servicing")
    headers = {"content-type": media_type}
    if method == "PATCH":
        source = "/v1/policies/active" if "thresholds" in path else target
        headers["if-match"] = (await client.get(source)).headers["etag"]
    content = body if isinstance(body, str) else json.dumps(body)
    answer = await client.request(method, target, content=content, headers=headers)
    assert answer.is_success, answer.text
    documented = DOCUMENT["paths"][path][method.lower()]["responses"][str(answer.status_code)]
    if answer.headers["content-type"] == "application/json":
        fits(documented["content"]["application/json"]["schema"], answer.json())
    else:
        assert all(json.loads(line)["status"] == 200 for line in answer.text.splitlines())


async def test_the_example_of_a_decision_is_what_the_example_of_an_application_gets(gate: Service) -> None:
    """But for the id and the clock. Sent with dates of today: a credit report ages."""
    async with gate.client("origination") as client:
        answer: httpx.Response = await client.post("/v1/decisions", json=application(APPLICATION["application_id"]))
    given, shown = answer.json(), deepcopy(ACCEPTED)
    for document in (given, shown):
        for name in ("decision_id", "decided_at"):
            document[name] = type(document[name])
    assert given == shown
    assert list(answer.json()) == sorted(ACCEPTED)
