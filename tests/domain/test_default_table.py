"""Every rule of the default table fires at its edge, for every tier, with the effect that the table names."""

from __future__ import annotations

from typing import Any

import pytest

from app.domain.cases import check_cases
from app.domain.channel import ChannelState
from app.domain.compiler import compile_policy
from app.domain.intake import read_application
from app.domain.policy_reader import parse_policy
from app.domain.reasons import NextAction, Outcome
from app.domain.screening import outcomes_by_tier, screen, tier_decisive
from app.policies.defaults import default_policy
from tests.domain.builders import (
    AT,
    TIERS,
    application,
    business_payload,
    codes,
    payload,
    policy,
    screened,
    standing,
    unknown,
)

REJECT, ESCALATE = Outcome.REJECT, Outcome.ESCALATE
# ruff: noqa: E501  # a row of the table stays on one line
# code, field, last passing value by tier, first failing value by tier, outcome by tier
EDGES: list[tuple[str, str, tuple[Any, Any, Any], tuple[Any, Any, Any], tuple[Outcome, Outcome, Outcome]]] = [
    ("AP02", "applicant__birth_date", ("2008-01-15",) * 3, ("2008-01-16",) * 3, (REJECT,) * 3),
    ("AP03", "all_in_apr_pct", ("24.00",) * 3, ("24.01",) * 3, (REJECT,) * 3),
    ("IN01", "applicant__monthly_income", (300_000, 400_000, 600_000), (299_999, 399_999, 599_999), (REJECT,) * 3),
    ("IN02", "applicant__income_verification", ("stated", "bank", "payroll"), ("none", "stated", "bank"), (ESCALATE,) * 3),
    ("DT01", "applicant__monthly_obligations", (1_100_000, 1_000_000, 800_000), (1_100_001, 1_000_001, 800_001), (REJECT,) * 3),
    ("DT03", "bureau__active_lenders", (6, 4, 3), (7, 5, 4), (REJECT,) * 3),
    ("BU01", "bureau__hit", (True,) * 3, (False,) * 3, (ESCALATE, ESCALATE, REJECT)),
    ("BU02", "bureau__history_months", (0, 6, 12), (None, 5, 11), (ESCALATE,) * 3),
    ("BU03", "bureau__score", (580, 620, 680), (579, 619, 679), (REJECT,) * 3),
    ("BU04", "bureau__max_dpd_12m", (89, 59, 29), (90, 60, 30), (REJECT,) * 3),
    ("BU05", "bureau__current_dpd_own", (0,) * 3, (1,) * 3, (REJECT,) * 3),
    ("BU06", "bureau__inquiries_3m", (8, 6, 4), (9, 7, 5), (ESCALATE,) * 3),
    ("BU07", "bureau__bankruptcy_months_ago", (84,) * 3, (83,) * 3, (REJECT,) * 3),
    ("BU08", "bureau__open_judgment", (False,) * 3, (True,) * 3, (REJECT,) * 3),
    ("BU09", "bureau__pulled_at", ("2025-12-16T08:00:00Z",) * 3, ("2025-12-16T07:59:59Z",) * 3, (ESCALATE,) * 3),
    ("EM01", "applicant__employment_months", (3, 6, 12), (2, 5, 11), (ESCALATE,) * 3),
    ("RE01", "applicant__residence_months", (0, 6, 12), (None, 5, 11), (ESCALATE,) * 3),
    ("FR01", "device__ids_on_device_24h", (2,) * 3, (3,) * 3, (ESCALATE,) * 3),
    ("DU00", "applicant__applicant_ref", ("person-0001",) * 3, (None,) * 3, (ESCALATE,) * 3),
    ("AP01", "applicant__monthly_obligations", (0,) * 3, (None,) * 3, (ESCALATE,) * 3),
]  # fmt: skip
BUSINESS_EDGES = [
    ("SB01", "business__months_trading", (6, 12, 24), (5, 11, 23), (REJECT,) * 3),
    ("SB02", "business__annual_revenue", (10_000_000, 30_000_000, 50_000_000), (9_999_999, 29_999_999, 49_999_999), (ESCALATE,) * 3),
]  # fmt: skip


def rows(edges: list[tuple[Any, ...]]) -> list[Any]:
    return [
        pytest.param(code, field, passing[i], failing[i], outcomes[i], tier, id=f"{code}-{tier}")
        for code, field, passing, failing, outcomes in edges
        for i, tier in enumerate(TIERS)
    ]


def causes(code: str) -> dict[str, str]:
    return {} if code in {"BU01", "BU07"} else unknown()


@pytest.mark.parametrize(("code", "field", "passing", "failing", "outcome", "tier"), rows(EDGES))
def test_rule_holds_at_its_edge_and_fails_one_step_beyond(
    code: str, field: str, passing: Any, failing: Any, outcome: Outcome, tier: str
) -> None:
    small = {"amount": 100_000, "unknown": causes(code)}
    assert code not in codes(screened(tier, **small, **{field: passing}))
    beyond = screened(tier, **small, **{field: failing})
    assert code in codes(beyond)
    reason = next(reason for reason in beyond.reasons if reason.code == code)
    assert reason.effect.value == outcome.value
    assert reason.text.en
    assert reason.text.zh


@pytest.mark.parametrize(("code", "field", "passing", "failing", "outcome", "tier"), rows(BUSINESS_EDGES))
def test_business_rule_holds_at_its_edge_and_fails_one_step_beyond(
    code: str, field: str, passing: Any, failing: Any, outcome: Outcome, tier: str
) -> None:
    for value, fires in ((passing, False), (failing, True)):
        read = read_application(business_payload(**{field: value}), policy())
        screening = screen(policy(), standing(tier), read, AT)
        assert codes(screening) == ([code] if fires else [])
        assert screening.outcome is (outcome if fires else Outcome.ACCEPT)


@pytest.mark.parametrize("tier", TIERS)
def test_a_good_applicant_is_accepted_through_every_tier(tier: str) -> None:
    screening = screened(tier)
    assert (screening.outcome, screening.next_action, screening.reasons) == (Outcome.ACCEPT, NextAction.PROCEED, ())


def test_every_rule_of_the_table_has_an_edge_test() -> None:
    tested = {row[0] for row in EDGES + BUSINESS_EDGES} | {"CH01", "DT02"}
    settled = set(policy().rules("general").settlement_codes)
    assert tested | settled == {rule.code for rule in policy().document.rules}


def test_a_channel_that_is_not_served_is_rejected_and_says_so() -> None:
    screening = screen(policy(), standing(served=False, state=ChannelState.SUSPENDED), application(), AT)
    assert (screening.outcome, codes(screening)) == (Outcome.REJECT, ["CH01"])
    assert screening.reasons[0].text.en.startswith("Other: applications from this source")


def test_business_rules_do_not_touch_consumers_nor_employment_rules_businesses() -> None:
    assert codes(screened("risk", business=None)) == []
    business = business_payload(applicant__employment_months=0, applicant__employment_type="self_employed")
    assert screen(policy(), standing("risk"), read_application(business, policy()), AT).outcome is Outcome.ACCEPT


def test_what_the_bureau_cannot_know_without_a_file_gives_no_reason() -> None:
    screening = screened("prime", bureau={"hit": False, "pulled_at": AT}, unknown={})
    assert codes(screening) == ["BU01"]


def test_debt_ratio_after_the_loan_escalates_where_its_inputs_are_unknown() -> None:
    screening = screened("general", all_in_apr_pct=None)
    assert {"AP01", "AP03", "DT02", "IN03"} == set(codes(screening))
    assert screening.outcome is Outcome.ESCALATE


def test_tier_decides_an_application_at_the_cutoff_of_general() -> None:
    by_tier = outcomes_by_tier(policy(), standing(), application(bureau__score=620), AT)
    assert by_tier == {"prime": Outcome.ACCEPT, "general": Outcome.ACCEPT, "risk": Outcome.REJECT}
    assert tier_decisive(Outcome.ACCEPT, by_tier)
    assert not tier_decisive(Outcome.ACCEPT, outcomes_by_tier(policy(), standing(), application(), AT))


def test_the_policy_keeps_its_own_cases() -> None:
    assert policy().document.cases
    assert check_cases(policy()) == ()


def test_a_case_that_is_decided_otherwise_is_named() -> None:
    document = default_policy()
    document["cases"][0]["expected"]["risk"] = {"outcome": "reject"}
    document["cases"][1] = {"name": "no form"}
    problems = check_cases(compile_policy(document))
    assert [(p.row, p.column) for p in problems] == [("cases[0]", "expected.risk.outcome"), ("cases[1]", "")]


def test_document_survives_being_written_and_read() -> None:
    document = parse_policy(default_policy())
    assert parse_policy(document.document()) == document
    assert payload()["product"] in document.products
