"""A policy's own cases: applications with the outcomes that its authors expect, run before it is published.

A case is `{"name", "at", "application", "channel", "facts", "expected": {tier: expectation}}`. Its channel is active
and has the tier of each expectation, unless `channel.state` says otherwise; no facts are gathered but those it states.
An expectation names what it cares about of `outcome`, `next_action`, `codes` (the distinct codes of the reasons, in
their rank), `ceiling` and `counter_offer` (amounts in minor units; null: no offer).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.domain.canonical import Json, parse_instant
from app.domain.channel import Channel, ChannelId, ChannelKind, ChannelState, TierAssignment
from app.domain.compiled import CompiledPolicy
from app.domain.errors import DomainError, PolicyProblem
from app.domain.intake import read_application
from app.domain.screening import screen, stand
from app.domain.settlement import NO_FACTS, Decision, Facts, settle

CASE_KEYS = ("name", "at", "application", "channel", "facts", "expected")
EXPECTATION_KEYS = ("outcome", "next_action", "codes", "ceiling", "counter_offer")
CASE_STATES = tuple(state for state in ChannelState if state is not ChannelState.PROPOSED)
"""The states in which a channel is on the named list, so that its applications are decided at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """What came of one case in one tier; `tier` is empty where the case cannot be run at all."""

    position: int
    name: str
    tier: str
    problems: tuple[PolicyProblem, ...]

    @property
    def passed(self) -> bool:
        """Whether it was decided as the case says."""
        return not self.problems


def run_cases(policy: CompiledPolicy) -> tuple[CaseResult, ...]:
    """Every case in every tier that it speaks of, in the order of the document."""
    return tuple(result for i, case in enumerate(policy.document.cases) for result in _run(policy, i, case))


def check_cases(policy: CompiledPolicy) -> tuple[PolicyProblem, ...]:
    """What the policy decides otherwise than its cases say, and cases that cannot be run."""
    return tuple(problem for result in run_cases(policy) for problem in result.problems)


def _run(policy: CompiledPolicy, position: int, case: Mapping[str, Json]) -> Iterator[CaseResult]:
    row, name = f"cases[{position}]", str(case.get("name") or f"case {position + 1}")
    unknown = [key for key in case if key not in CASE_KEYS]
    expected = case.get("expected")
    if unknown or not isinstance(expected, dict) or not expected:
        detail = f"has no column {unknown[0]}" if unknown else "must name what is expected, by tier"
        column = unknown[0] if unknown else ""
        problem = PolicyProblem(row=row, column=column, detail=detail)
        yield CaseResult(position=position, name=name, tier="", problems=(problem,))
        return
    for tier, expectation in expected.items():
        try:
            problems = _compare(row, tier, expectation, _decided(policy, case, tier))
        except (DomainError, KeyError, TypeError, ValueError, AttributeError) as error:
            detail = str(error) if isinstance(error, DomainError) else "does not have the form of a case"
            problems = (PolicyProblem(row=row, column="", detail=detail),)
        yield CaseResult(position=position, name=name, tier=tier, problems=problems)


def _decided(policy: CompiledPolicy, case: Mapping[str, Json], tier: str) -> Decision:
    payload, stated = case["application"], case.get("facts")
    if not isinstance(payload, dict):
        raise TypeError("an application is an object")
    policy.rules(tier)
    application = read_application(payload, policy)
    at = parse_instant(str(case["at"]))
    standing = stand(policy, _channel(case.get("channel"), application.channel_code, tier, at), application, at)
    if stated is not None and not isinstance(stated, dict):
        raise TypeError("facts are an object")
    return settle(screen(policy, standing, application, at), Facts.from_document(stated) if stated else NO_FACTS)


def _channel(stated: Json, code: str, tier: str, at: datetime) -> Channel:
    """A channel that has had the tier for a day."""
    columns = {} if stated is None else stated
    if not isinstance(columns, dict) or not columns.keys() <= {"state"}:
        raise TypeError("a channel has a state")
    state = ChannelState(str(columns.get("state", ChannelState.ACTIVE.value)))
    since = at - timedelta(days=1)
    return Channel(
        channel_id=ChannelId(0),
        code=code,
        kind=ChannelKind.ONLINE,
        state=state,
        valid_from=since,
        assignments=(TierAssignment(tier=tier, valid_from=since),),
    )


def _compare(row: str, tier: str, expectation: Json, decision: Decision) -> tuple[PolicyProblem, ...]:
    if not isinstance(expectation, dict):
        raise TypeError("an expectation names what is expected")
    codes: list[Json] = [*dict.fromkeys(reason.code for reason in decision.reasons)]
    offer = decision.counter_offer
    decided: dict[str, Json] = {
        "outcome": decision.outcome.value,
        "next_action": decision.next_action.value,
        "codes": codes,
        "ceiling": decision.screening.ceiling.amount,
        "counter_offer": None if offer is None else offer.amount,
    }
    problems = []
    for column, value in expectation.items():
        if column not in decided:
            detail = f"is not one of {', '.join(decided)}"
        elif decided[column] != value or isinstance(value, bool):
            detail = f"expected {_shown(value)}, decided {_shown(decided[column])}"
        else:
            continue
        problems.append(PolicyProblem(row=row, column=f"expected.{tier}.{column}", detail=detail))
    return tuple(problems)


def _shown(value: Json) -> str:
    if isinstance(value, list):
        return f"[{', '.join(str(item) for item in value)}]"
    return "none" if value is None else str(value)
