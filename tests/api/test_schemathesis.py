"""The OpenAPI document against a running server: what is sent fits it or breaks it, what is answered always fits it.

The document is that of the code, so that each operation is a test of its own; `test_openapi.py` sees that it is served.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.schemas import OpenApiSchema

from app.api.examples import APPLICATION
from app.api.routes.decide import BATCH_PATH, NDJSON
from app.api.routes.outcomes import PATH as OUTCOMES_PATH
from app.policies.defaults import default_policy
from tests.api.openapi import DOCUMENT
from tests.support.applications import application
from tests.support.cluster import Cluster
from tests.support.server import Server, seeded_server

pytestmark = pytest.mark.xdist_group("schemathesis")

_CHECKS = {
    # A body that fits the schema may still contradict the policy or the registry: that is a documented 4xx.
    "positive_data_acceptance": {"enabled": False},
    # What is wrong in a body is not looked at where a precondition has failed.
    "negative_data_rejection": {"expected-statuses": [400, 401, 403, 404, 405, 406, 409, 412, 413, 415, 422, 428]},
    "missing_required_header": {"expected-statuses": [401, 422, 428]},
}
_LINES = {
    # Whatever is sent there is lines of text, each of which is answered by itself.
    "include-path-regex": f"^({BATCH_PATH}|{OUTCOMES_PATH})$",
    "checks": {"negative_data_rejection": {"enabled": False}},
}
_SPARED = {
    # A thousand ways to write a policy wrong: for the long run.
    "include-path-regex": "^/v1/policies(/validate|/lint|/challenger|/drafts(/.draft_id.)?)?$",
    "include-method": ["POST", "PUT"],
    "phases": {"coverage": {"enabled": False}},
}

schemathesis.serializer.alias(NDJSON, "text/plain")


def _schema(*operations: dict[str, Any]) -> OpenApiSchema:
    config = SchemathesisConfig.from_dict({"checks": _CHECKS, "operations": list(operations)})
    return schemathesis.openapi.from_dict(DOCUMENT, config=config)


short_run, long_run = _schema(_LINES, _SPARED), _schema(_LINES)

_CALM = {"deadline": None, "suppress_health_check": list(HealthCheck)}
_KEPT = ("channel_code", "product", "currency", "amount", "term_months")
"""What a generated application takes from the example, so that the policy can decide it."""


@pytest.fixture(scope="module")
async def server(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """A server on a database that the generated admin changes may ruin."""
    async with seeded_server(cluster, tmp_path_factory.mktemp("schemathesis"), workers=1) as server:
        yield server


@pytest.fixture(scope="module")
async def decision_ids(server: Server) -> list[str]:
    """Decisions that there are: an accepted one, and a refused one with reasons."""
    client = server.client()
    bodies = [application("known-1"), application("known-2", channel_code="broker-one", bureau={"score": 500})]
    return [(await client.post("/v1/decisions", json=body)).json()["decision_id"] for body in bodies]


@short_run.parametrize()
@settings(max_examples=8, **_CALM)
def test_every_operation_answers_as_documented(
    case: schemathesis.Case, server: Server, decision_ids: list[str]
) -> None:
    _call(case, server, decision_ids)


@pytest.mark.slow
@pytest.mark.timeout(900)
@long_run.parametrize()
@settings(max_examples=250, **_CALM)
def test_every_operation_answers_many_requests_as_documented(
    case: schemathesis.Case, server: Server, decision_ids: list[str]
) -> None:
    _call(case, server, decision_ids)


def _call(case: schemathesis.Case, server: Server, decision_ids: list[str]) -> None:
    """Send it with each credential that the operation knows, and check the answers."""
    if _fits(case):
        _lead_to_something_known(case, decision_ids)
    for role in _roles(case):
        case.call_and_validate(
            base_url=server.base_url, headers={"Authorization": f"Bearer {server.database.keys[role]}"}
        )


def _fits(case: schemathesis.Case) -> bool:
    return case.meta is not None and case.meta.generation.mode.is_positive


def _roles(case: schemathesis.Case) -> tuple[str, ...]:
    deciding = case.operation.path.startswith("/v1/decisions") and case.operation.method == "post"
    if case.operation.path.startswith(("/v1/outcomes", "/v1/feeds")):
        return ("origination",)
    reading = "decision" in case.operation.path and case.operation.method == "get"
    return ("origination",) if deciding else ("origination", "analyst") if reading else ("admin",)


def _lead_to_something_known(case: schemathesis.Case, decision_ids: list[str]) -> None:
    """Chance names no decision, channel or product that exists. Every second case gets one that does."""
    values: dict[str, Any] = case.path_parameters
    if len(str(case.query) + str(case.body) + str(values)) % 2:
        return
    operation = f"{case.operation.method} {case.operation.path}"
    if "decision_id" in values:
        values["decision_id"] = decision_ids[len(str(case.query)) % len(decision_ids)]
    elif "application_id" in values:
        values["application_id"] = "known-2"
        if "revision" in values:
            values["revision"] = "latest"
        case.query |= {"originator": "demo-origination"}
    elif "code" in values and "channels" in operation:
        values["code"] = "search-ads"
    elif "version" in values:
        values["version"] = 1
    elif operation == "post /v1/decisions" and isinstance(case.body, dict):
        # A new one: the body may be the very example that the document holds.
        kept = {name: value for name, value in case.body.items() if name not in {"attributes", "unknown"}}
        case.body = kept | {name: APPLICATION[name] for name in _KEPT} | {"consent_at": "2026-11-24T10:00:00Z"}
        case.body["application_id"] = sha256(repr(case.body).encode()).hexdigest()
    elif operation == f"post {BATCH_PATH}":
        case.body = "\n".join(json.dumps(application(f"line-{n}")) for n in range(3)) + f"\n{case.body}\n"
    elif operation in {"post /v1/policies", "post /v1/policies/validate"}:
        case.body = default_policy()
        case.headers.pop("If-Match", None)
