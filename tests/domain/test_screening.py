# ruff: noqa: E501  # rows of a table stay on one line
"""How a channel stands, what is derived, and what unknowns, ceilings and offers come to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.domain.application import Unknown
from app.domain.channel import ChannelState, TierAssignment
from app.domain.compiled import CompiledPolicy, UnknownTierError
from app.domain.compiler import compile_policy
from app.domain.errors import ConsentMissingError, UnknownChannelError
from app.domain.intake import read_application
from app.domain.policy import Effect
from app.domain.reasons import NextAction, Outcome
from app.domain.screening import CLOCK_SKEW, Screening, screen, stand
from app.policies.defaults import default_policy
from tests.domain.builders import AT, application, channel, codes, payload, policy, screened, standing, unknown


def changed_policy(**rules: dict[str, Any]) -> CompiledPolicy:
    """The default policy with columns of rules changed, by code."""
    document = default_policy()
    for row in document["rules"]:
        row.update(rules.get(row["code"], {}))
    return compile_policy(document)


def assigned(tier: str, **scope: Any) -> TierAssignment:
    return TierAssignment(**{"tier": tier, "valid_from": AT - timedelta(days=1)} | scope)


# Standing -------------------------------------------------------------------------------------------------------------


def test_a_channel_without_an_assignment_stands_in_the_default_tier() -> None:
    assert stand(policy(), channel(), application(), AT).tier == "general"


def test_the_most_specific_scope_wins_and_product_outweighs_jurisdiction() -> None:
    everywhere, here, this = (
        assigned("risk"),
        assigned("general", jurisdiction="CN"),
        assigned("prime", product="unsecured_consumer"),
    )
    assert channel(assignments=(everywhere, here)).tier("unsecured_consumer", "CN", AT) == "general"
    assert channel(assignments=(this, everywhere, here)).tier("unsecured_consumer", "CN", AT) == "prime"
    assert channel(assignments=(this, everywhere, here)).tier("small_business", "US", AT) == "risk"
    assert channel(assignments=(here, this)).tier("small_business", None, AT) is None


def test_an_assignment_holds_from_its_start_to_just_before_its_end() -> None:
    held = channel(assignments=(assigned("prime", valid_from=AT, valid_to=AT + timedelta(hours=1)),))
    moments = (-1, 0, 3_599, 3_600)
    tiers = [held.tier("unsecured_consumer", "CN", AT + timedelta(seconds=second)) for second in moments]
    assert tiers == [None, "prime", "prime", None]


def test_a_channel_is_served_from_its_start_to_just_before_its_end() -> None:
    dated = channel(valid_from=AT, valid_to=AT + timedelta(seconds=10))
    assert [dated.served(AT + timedelta(seconds=second)) for second in (-1, 0, 9, 10)] == [False, True, True, False]
    assert dated.expired(AT + timedelta(seconds=10))


@pytest.mark.parametrize("state", [ChannelState.SUSPENDED, ChannelState.EXITED])
def test_a_channel_that_is_not_served_stands_all_the_same_and_is_rejected(state: ChannelState) -> None:
    held = stand(policy(), channel(state=state), application(), AT)
    assert not held.served
    assert screen(policy(), held, application(), AT).outcome is Outcome.REJECT


def test_a_proposed_channel_is_not_on_the_named_list() -> None:
    with pytest.raises(UnknownChannelError):
        stand(policy(), channel(state=ChannelState.PROPOSED), application(), AT)


@pytest.mark.parametrize(
    ("tier", "rules_tier", "ceiling_tier"),
    [(None, "general", "risk"), ("prime", "general", "risk"), ("general", "general", "risk"), ("risk", "risk", "risk")],
)
def test_probation_has_general_rules_and_the_risk_ceiling_or_stricter(
    tier: str | None, rules_tier: str, ceiling_tier: str
) -> None:
    assignments = () if tier is None else (assigned(tier),)
    held = stand(policy(), channel(state=ChannelState.PROBATION, assignments=assignments), application(), AT)
    assert (held.tier, held.rules_tier, held.ceiling_tier) == (rules_tier, rules_tier, ceiling_tier)


@pytest.mark.parametrize("state", [ChannelState.ACTIVE, ChannelState.PROBATION])
def test_a_tier_that_the_policy_does_not_have_escalates_and_never_accepts(state: ChannelState) -> None:
    held = stand(policy(), channel(state=state, assignments=(assigned("gold"),)), application(), AT)
    assert (held.tier, held.rules_tier, held.ceiling_tier) == ("gold", "risk", "risk")
    screening = screen(policy(), held, application(), AT)
    assert (screening.outcome, screening.next_action, codes(screening)) == (
        Outcome.ESCALATE,
        NextAction.REVIEW,
        ["CH00"],
    )


@pytest.mark.parametrize("lost", ["rules_tier", "ceiling_tier"])
def test_a_standing_under_rules_that_do_not_exist_decides_nothing(lost: str) -> None:
    with pytest.raises(UnknownTierError):
        screen(policy(), standing()._replace(**{lost: "gold"}), application(), AT)


def test_a_moment_without_an_offset_decides_nothing() -> None:
    with pytest.raises(ValueError, match="offset"):
        screen(policy(), standing(), application(), AT.replace(tzinfo=None))


def test_consent_of_the_future_is_none_yet_but_for_the_skew_of_clocks() -> None:
    latest = AT + CLOCK_SKEW
    assert screened(consent_at=latest).outcome is Outcome.ACCEPT
    with pytest.raises(ConsentMissingError):
        screened(consent_at=latest + timedelta.resolution)
    lax = default_policy()
    lax["consent_required"] = False
    read = application(consent_at=latest + timedelta.resolution)
    assert screen(compile_policy(lax), standing(), read, AT).outcome is Outcome.ACCEPT


# Derived fields -------------------------------------------------------------------------------------------------------


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


@pytest.mark.parametrize(
    ("birth_date", "moment", "years"),
    [
        ("2008-01-15", "2026-01-14T23:59:59+00:00", 17),
        ("2008-01-15", "2026-01-15T00:00:00+00:00", 18),
        ("2008-01-15", "2026-01-15T05:00:00+08:00", 17),
        ("2008-02-29", "2026-02-28T12:00:00+00:00", 17),
        ("2008-02-29", "2026-03-01T00:00:00+00:00", 18),
    ],
)
def test_a_year_of_age_is_completed_on_the_birthday_in_utc(birth_date: str, moment: str, years: int) -> None:
    read = application(applicant__birth_date=birth_date, applicant__age_years=90, consent_at=moment)
    screening = screen(policy(), standing(), read, at(moment))
    assert screening.values["applicant.age_years"] == years
    assert ("AP02" in codes(screening)) == (years < 18)


def test_a_stated_age_counts_where_there_is_no_birth_date() -> None:
    assert screened(applicant__birth_date=None, applicant__age_years=18).outcome is Outcome.ACCEPT
    assert codes(screened(applicant__birth_date=None, applicant__age_years=17)) == ["AP02"]


@pytest.mark.parametrize(
    ("changes", "code", "cause"),
    [
        ({"applicant__birth_date": "2026-01-16"}, "AP02", Unknown.UNDEFINED),
        ({"applicant__birth_date": None, "unknown": unknown(applicant__birth_date="source_error")}, "AP02", Unknown.SOURCE_ERROR),
        ({"bureau__pulled_at": "2026-01-15T08:05:01Z"}, "BU09", Unknown.UNDEFINED),
        ({"bureau__pulled_at": None, "unknown": unknown(bureau__pulled_at="not_found")}, "BU09", Unknown.NOT_FOUND),
        ({"applicant__monthly_obligations": None, "unknown": unknown(applicant__monthly_obligations="source_error")}, "DT01", Unknown.SOURCE_ERROR),
        ({"applicant__monthly_income": 0}, "DT01", Unknown.UNDEFINED),
    ],
)  # fmt: skip
def test_what_cannot_be_derived_is_unknown_for_the_cause_of_its_input(
    changes: dict[str, Any], code: str, cause: Unknown
) -> None:
    reason = next(reason for reason in screened(**changes).reasons if reason.code == code)
    assert (reason.observed, reason.cause, reason.effect) == (None, cause, Effect.ESCALATE)


def test_a_bureau_clock_slightly_ahead_is_no_fault() -> None:
    assert screened(bureau__pulled_at="2026-01-15T08:05:00Z").outcome is Outcome.ACCEPT


# Unknowns -------------------------------------------------------------------------------------------------------------


def test_an_unknown_gives_its_own_reason_and_never_the_failure_text() -> None:
    (reason,) = screened(bureau__score=None, unknown=unknown(bureau__score="source_error")).reasons
    assert (reason.code, reason.cause, reason.observed) == ("BU03", Unknown.SOURCE_ERROR, None)
    assert reason.text.en == "Unable to verify credit score"


def test_only_the_cause_that_the_rule_names_passes() -> None:
    outcomes = {
        cause: screened(unknown={"bureau.bankruptcy_months_ago": cause}).outcome
        for cause in ("not_found", "not_requested", "source_error")
    }
    assert outcomes == {
        "not_found": Outcome.ACCEPT,
        "not_requested": Outcome.ESCALATE,
        "source_error": Outcome.ESCALATE,
    }


def conditional(if_missing: str) -> CompiledPolicy:
    when = [{"field": "business.owner_guarantee", "op": "is", "value": True, "if_missing": if_missing}]
    return changed_policy(BU03={"when": when})


@pytest.mark.parametrize(
    ("score", "guarantee", "if_missing", "outcome"),
    [
        (500, True, "escalate", Outcome.REJECT),
        (500, False, "escalate", Outcome.ACCEPT),
        (500, None, "escalate", Outcome.ESCALATE),
        (500, None, "reject", Outcome.REJECT),
        (500, None, "pass", Outcome.ACCEPT),
        (740, None, "escalate", Outcome.ACCEPT),
        (None, None, "pass", Outcome.ACCEPT),
        (None, False, "reject", Outcome.ACCEPT),
        (None, None, "reject", Outcome.ESCALATE),
    ],
)
def test_conditions_are_three_valued(
    score: int | None, guarantee: bool | None, if_missing: str, outcome: Outcome
) -> None:
    compiled = conditional(if_missing)
    request = payload(bureau__score=score, business={"owner_guarantee": guarantee})
    assert screen(compiled, standing(), read_application(request, compiled), AT).outcome is outcome


# Ceilings and offers --------------------------------------------------------------------------------------------------


def test_an_amount_at_the_ceiling_is_accepted_and_one_above_is_offered_the_ceiling() -> None:
    at_ceiling = screened("risk", amount=3_000_000)
    assert (at_ceiling.outcome, at_ceiling.ceiling.binding) == (Outcome.ACCEPT, "tier_cap")
    above = screened("risk", amount=3_000_001)
    assert (above.outcome, above.next_action) == (Outcome.ESCALATE, NextAction.COUNTER_OFFER)
    assert above.counter_offer is not None
    assert above.counter_offer.amount == 3_000_000
    assert above.reasons[0].text.en == "Other: amount above the limit for applications from this source"


def binding_text(screening: Screening) -> tuple[str, str]:
    return screening.ceiling.binding, next(r.text.en for r in screening.reasons if r.code == "IN03")


@pytest.mark.parametrize(
    ("changes", "binding", "text"),
    [
        ({"applicant__monthly_income": 600_000, "applicant__monthly_obligations": 0}, "income_multiple", "Income insufficient for amount of credit requested"),
        ({"applicant__monthly_obligations": 650_000}, "dti", "Excessive obligations in relation to income"),
    ],
)  # fmt: skip
def test_the_binding_cap_gives_the_reason(changes: dict[str, Any], binding: str, text: str) -> None:
    assert binding_text(screened("risk", amount=10_000_000, **changes)) == (binding, text)


def test_a_ceiling_below_the_product_minimum_rejects() -> None:
    screening = screened("prime", amount=100_000, applicant__monthly_obligations=1_000_000)
    assert screening.ceiling.amount == 0
    assert (screening.outcome, screening.counter_offer, codes(screening)) == (Outcome.REJECT, None, ["IN03"])


def test_there_is_no_offer_where_anything_else_failed() -> None:
    escalated = screened("risk", amount=4_000_000, applicant__employment_months=11)
    assert (escalated.outcome, escalated.next_action, escalated.counter_offer) == (
        Outcome.ESCALATE,
        NextAction.REVIEW,
        None,
    )
    rejected = screened("risk", amount=4_000_000, bureau__score=1)
    assert (rejected.outcome, rejected.next_action, rejected.counter_offer) == (
        Outcome.REJECT,
        NextAction.DECLINE,
        None,
    )


def test_stated_income_counts_for_its_haircut_and_unproven_income_for_nothing() -> None:
    stated = screened("prime", applicant__income_verification="stated").ceiling
    assert stated.income.amount == 1_400_000
    assert dict(stated.applied)["income_multiple"] == 11_200_000
    unproven = screened("prime", applicant__income_verification="none").ceiling
    assert [(cap.cap, cap.field, cap.cause) for cap in unproven.not_applied] == [
        ("income_multiple", "applicant.income_verification", Unknown.UNDEFINED),
        ("dti", "applicant.income_verification", Unknown.UNDEFINED),
    ]


def test_caps_whose_inputs_are_unknown_are_named_and_escalate_only_where_the_policy_minds() -> None:
    request = {
        "applicant__monthly_obligations": None,
        "unknown": unknown(applicant__monthly_obligations="source_error"),
    }
    screening = screened("prime", **request)
    assert [(cap.cap, cap.field) for cap in screening.ceiling.not_applied] == [("dti", "applicant.monthly_obligations")]
    assert ("IN03", Unknown.SOURCE_ERROR) in {(reason.code, reason.cause) for reason in screening.reasons}
    document = default_policy()
    document["ceiling"]["if_inputs_missing"] = "pass"
    lax = compile_policy(document)
    again = screen(lax, standing("prime"), read_application(payload(**request), lax), AT)
    assert "IN03" not in codes(again)


def test_the_debt_ratio_after_a_loan_at_the_ceiling_is_within_the_limit_to_the_last_unit() -> None:
    document = default_policy()
    document["products"]["unsecured_consumer"] |= {"rounding_unit": 1, "product_cap": 10**9, "legal_cap": None}
    document["ceiling"]["tier_cap"] |= {"general": None}
    document["ceiling"]["income_multiple"] |= {"general": None}
    compiled = compile_policy(document)
    read = read_application(payload(amount=10**9), compiled)
    screening = screen(compiled, standing(), read, AT)
    assert screening.ceiling.binding == "dti"
    assert screening.values["dti_after_loan_pct"] == 4_500
    assert screening.next_action is NextAction.COUNTER_OFFER
