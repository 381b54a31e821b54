"""Lint over HTTP, and versions as YAML that can be sent back."""

from __future__ import annotations

from typing import Any

from app.domain.compiler import compile_policy
from app.policies.defaults import default_policy
from app.policies.document_text import parse_yaml
from tests.support.server import Server


def odd() -> dict[str, Any]:
    """A policy with an error and a warning."""
    document = default_policy()
    rules = {rule["code"]: rule for rule in document["rules"]}
    document["rules"].append(rules["BU03"] | {"code": "BU98"})
    rules["DT03"]["thresholds"] = {"prime": 3, "general": 4, "risk": 3}
    return document


async def test_findings_are_listed_errors_first_and_come_with_a_validation(gate_server: Server) -> None:
    analyst = gate_server.client("analyst")
    report = (await analyst.post("/v1/policies/lint", json=odd())).json()
    assert (report["errors"], report["warnings"], report["applications"]) == (1, 1, None)
    assert [(each["severity"], each["code"], each["row"], each["column"]) for each in report["findings"]] == [
        ("error", "L06-duplicate", "BU98", ""),
        ("warning", "L08-not-monotone", "DT03", "thresholds.general"),
    ]
    validated = (await analyst.post("/v1/policies/validate", json=odd() | {"cases": []})).json()
    assert validated["findings"] == report["findings"]
    asked = (await analyst.post("/v1/policies/lint", json=odd(), params={"against_log": "true"})).json()
    assert asked["applications"] == 0
    assert (await analyst.post("/v1/policies/lint", json={"name": "x"})).status_code == 422
    assert (await gate_server.client().post("/v1/policies/lint", json=odd())).status_code == 403


async def test_a_version_as_yaml_is_the_document_alone_and_can_be_sent_back(gate_server: Server) -> None:
    admin = gate_server.client("admin")
    for path in ("active", "1"):
        answer = await admin.get(f"/v1/policies/{path}", headers={"Accept": "application/yaml"})
        assert answer.headers["content-type"].startswith("application/yaml")
        assert answer.headers["content-location"] == "/v1/policies/1"
        assert "accept" in answer.headers["vary"].lower()
        assert parse_yaml(answer.content) == compile_policy(default_policy()).document.document()
    again = await admin.post(
        "/v1/policies", content=answer.content, headers={"Content-Type": "application/yaml"}, params={"wait": 5}
    )
    assert (again.status_code, again.json()["changed"]) == (200, False)
    assert (await admin.get("/v1/policies/1", headers={"Accept": "text/csv"})).status_code == 406
    assert (await admin.get("/v1/policies/1")).headers["content-type"] == "application/json"
