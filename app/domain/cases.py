"""A policy's own cases: applications with the outcomes that its authors expect, run before it is published.

A case is `{"name", "at", "application", "expected": {tier: {"outcome", "codes"}}}`: the channel is active and served,
no facts are gathered, and `codes` are the distinct codes of the reasons in their rank.
"""

from __future__ import annotations

from collections.abc import Mapping

from app.domain.canonical import Json, parse_instant
from app.domain.channel import ChannelId, ChannelState, Standing
from app.domain.compiler import CompiledPolicy
from app.domain.errors import DomainError, PolicyProblem
from app.domain.intake import read_application
from app.domain.screening import screen


def check_cases(policy: CompiledPolicy) -> tuple[PolicyProblem, ...]:
    """What the policy decides otherwise than its cases say, and cases that cannot be run."""
    problems: list[PolicyProblem] = []
    for position, case in enumerate(policy.document.cases):
        row = f"cases[{position}]"
        try:
            problems += _check(policy, row, case)
        except (DomainError, KeyError, TypeError, ValueError, AttributeError) as error:
            detail = str(error) if isinstance(error, DomainError) else "does not have the form of a case"
            problems.append(PolicyProblem(row=row, column="", detail=detail))
    return tuple(problems)


def _check(policy: CompiledPolicy, row: str, case: Mapping[str, Json]) -> list[PolicyProblem]:
    payload, expected = case["application"], case["expected"]
    if not isinstance(payload, dict) or not isinstance(expected, dict) or not expected:
        raise TypeError("a case has an application and expectations")
    application = read_application(payload, policy)
    at = parse_instant(str(case["at"]))
    problems = []
    for tier, expectation in expected.items():
        if not isinstance(expectation, dict):
            raise TypeError("an expectation has an outcome")
        standing = Standing(
            channel_id=ChannelId(0),
            code=application.channel_code,
            state=ChannelState.ACTIVE,
            served=True,
            tier=tier,
            rules_tier=tier,
            ceiling_tier=tier,
        )
        screening = screen(policy, standing, application, at)
        codes: list[Json] = [*dict.fromkeys(reason.code for reason in screening.reasons)]
        decided = {"outcome": screening.outcome.value, "codes": codes}
        for column, value in expectation.items():
            if decided.get(column) != value:
                detail = f"expected {value}, decided {decided.get(column)}"
                problems.append(PolicyProblem(row=row, column=f"expected.{tier}.{column}", detail=detail))
    return problems
