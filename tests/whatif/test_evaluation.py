"""The columns decide as the hot path does, on any policy and any application."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.canonical import without_floats
from app.domain.channel import ChannelState
from app.domain.compiled import CompiledPolicy
from app.domain.compiler import compile_policy
from app.domain.errors import ApplicationError, ConsentMissingError
from app.domain.intake import read_application
from app.domain.screening import screen
from app.domain.settlement import Facts, settle
from app.policies.defaults import default_policy
from app.whatif.ceilings import CAPS
from app.whatif.columns import Refusal
from app.whatif.evaluation import ACTIONS, OUTCOMES, Evaluation, evaluate
from app.whatif.packing import Context, Packer
from app.whatif.per_row import answer_of, check_rows, is_refused
from app.whatif.standing import assigned_tier, standing_under
from tests.domain.test_properties import payloads as default_payloads
from tests.whatif.strategies import AT, facts, policies, requests, standings

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"

Row = tuple[dict[str, Any], tuple[ChannelState, bool, str | None], dict[str, Any]]


def rows_of(payloads: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[list[Row]]:
    return st.lists(st.tuples(payloads, standings(), facts), min_size=1, max_size=8)


def packed(rows: list[Row], attributes: tuple[str, ...]) -> Any:
    packer = Packer(attributes)
    for number, (payload, (state, served, assigned), known) in enumerate(rows):
        context = Context(
            row_id=str(number).encode(),
            decided_at=AT,
            channel_code="web",
            channel_state=state.value,
            served=served,
            assigned_tier=assigned,
            facts=known,
        )
        packer.add(context, payload)
    return packer.batch()


def hot_path(policy: CompiledPolicy, row: Row) -> Any:
    """The answer of the hot path on one row, or None where it would refuse it."""
    payload, (state, served, assigned), known = row
    standing = standing_under(policy, channel_code="web", state=state, served=served, assigned=assigned)
    try:
        screening = screen(policy, standing, read_application(payload, policy), AT)
    except (ApplicationError, ConsentMissingError):
        return None
    decision = settle(screening, Facts.from_document(known))
    offer = decision.counter_offer
    return (
        OUTCOMES.index(decision.outcome),
        ACTIONS.index(decision.next_action),
        decision.screening.ceiling.amount,
        CAPS.index(decision.screening.ceiling.binding),
        0 if offer is None else offer.amount,
        {reason.code for reason in decision.reasons},
        decision.screening.standing.tier,
    )


def columns(evaluation: Evaluation, row: int) -> Any:
    if is_refused(evaluation, row):
        return None
    return (*answer_of(evaluation, row), evaluation.tier_codes[evaluation.tiers[row]])


def agree(policy: CompiledPolicy, rows: list[Row], attributes: tuple[str, ...]) -> None:
    batch = packed(rows, attributes)
    evaluation = evaluate(batch, policy)
    decided = np.flatnonzero(evaluation.refusals == Refusal.NONE)
    assert len(check_rows(policy, batch, decided, evaluation)) == decided.size
    for number, row in enumerate(rows):
        expected = hot_path(policy, row)
        assert columns(evaluation, number) == expected


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(policies(), st.data())
def test_any_policy_decides_any_application_alike_in_rows_and_in_columns(
    policy: CompiledPolicy, data: st.DataObject
) -> None:
    agree(policy, data.draw(rows_of(requests(policy))), ("p", "q", "r", "s"))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows_of(default_payloads))
def test_the_default_policy_decides_alike_in_rows_and_in_columns(rows: list[Row]) -> None:
    agree(DEFAULT, rows, ())


DEFAULT = compile_policy(default_policy(), version=7)


def example(name: str) -> CompiledPolicy:
    document = yaml.safe_load((EXAMPLES / f"{name}.policy.yaml").read_text(encoding="utf-8"))
    return compile_policy(without_floats(document), version=1)


@pytest.mark.parametrize("name", ["moneylion", "creditas"])
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_the_example_policies_decide_alike_in_rows_and_in_columns(name: str, data: st.DataObject) -> None:
    policy = example(name)
    rows = data.draw(rows_of(requests(policy)))
    agree(policy, rows, (*policy.attributes, "p", "q", "r", "s"))


@settings(max_examples=100, deadline=None)
@given(policies(), standings())
def test_a_record_tells_the_tier_that_gives_its_standing_again(
    policy: CompiledPolicy, stood: tuple[ChannelState, bool, str | None]
) -> None:
    state, served, assigned = stood
    recorded = standing_under(policy, channel_code="web", state=state, served=served, assigned=assigned)
    found = assigned_tier(policy, recorded)
    assert standing_under(policy, channel_code="web", state=state, served=served, assigned=found) == recorded
