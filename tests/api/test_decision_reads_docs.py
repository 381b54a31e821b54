"""`docs/api.md` speaks of everything that the API has, and of nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from app.api.factory import make_app
from app.api.problems import ProblemType
from app.api.schemas.decisions import DecisionQuery
from app.domain.reasons import NextAction, Outcome
from app.identities.principal import Role
from app.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


def test_every_path_is_described_and_no_other() -> None:
    app = make_app(Settings(DATABASE_URL=NOWHERE, GOVERNANCE_DATABASE_URL=NOWHERE))
    named = set(re.findall(r"(/(?:v1/[a-z{][\w{}/-]*|livez|readyz|metrics))", PAGE.replace("$GATE", "")))
    templates = {path for path in named if "/channels/search-ads" not in path and "/applications/A-" not in path}
    templates = {path for path in templates if "BU03" not in path and path != "/v1/decisions/"}
    assert templates == set(app.api.openapi()["paths"])


def test_every_problem_is_in_the_table_with_its_status() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("|")]
    for problem in ProblemType:
        row = next((row for row in rows if f"`{problem.slug}`" in row), None)
        assert row is not None, problem.slug
        assert str(problem.status) in row.split("|")[1], problem.slug


def test_every_filter_and_every_outcome_is_named() -> None:
    for name in (*DecisionQuery.model_fields, *(each.value for each in (*Outcome, *NextAction))):
        assert f"`{name}`" in PAGE or f"`{name}=" in PAGE or f"`{name}:" in PAGE, name


def test_every_role_that_opens_a_route_is_named() -> None:
    for role in (Role.ORIGINATION, Role.ANALYST, Role.REVIEWER, Role.POLICY_AUTHOR, Role.ADMIN):
        assert f"`{role.value}`" in PAGE
