"""What is answered and recorded: reasons in their rank, nothing confidential, and a replay that is exact."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.domain.application import Unknown
from app.domain.canonical import canonical_bytes
from app.domain.compiler import compile_policy
from app.domain.errors import DomainError
from app.domain.fields import Source
from app.domain.policy import Effect, Text
from app.domain.reasons import NEUTRAL_NOTICE, NextAction, Outcome, Reason, outcome_of, principal, ranked
from app.domain.record import ReplayError, record_document, replay, response_document
from app.domain.screening import screen
from app.domain.settlement import Decision, Facts, settle
from app.policies.defaults import default_policy
from tests.domain.builders import AT, DECISION_ID, application, payload, policy, screened, standing, unknown


def decided(tier: str = "general", facts: Facts | None = None, **changes: object) -> Decision:
    return settle(screened(tier, **changes), facts or Facts())


def answered(decision: Decision) -> dict[str, Any]:
    return response_document(decision, decision_id=DECISION_ID)


def reason(code: str, effect: Effect = Effect.ESCALATE, **columns: Any) -> Reason:
    values: dict[str, Any] = {
        "field": "bureau.score",
        "observed": 1,
        "threshold": 2,
        "cause": None,
        "text": Text(en=code, zh=code),
        "source": Source.BUREAU,
        "priority": 1,
    }
    return Reason(code=code, effect=effect, **values | columns)


def test_reasons_rank_by_severity_priority_distance_and_code() -> None:
    reasons = (
        reason("E1"),
        reason("R3", Effect.REJECT, priority=2),
        reason("R2", Effect.REJECT, distance_ppm=5),
        reason("R1", Effect.REJECT, distance_ppm=9),
        reason("R0", Effect.REJECT, distance_ppm=5),
    )
    assert [each.code for each in ranked(reasons)] == ["R1", "R0", "R2", "R3", "E1"]


def test_the_first_four_distinct_notices_are_the_principal_reasons() -> None:
    same = Text(en="same", zh="同")
    reasons = (
        reason("A", text=same),
        reason("B", text=same),
        *(reason(code, confidential=True) for code in "CD"),
        *(reason(code) for code in "EFG"),
    )
    assert [each.code for each in principal(reasons)] == ["A", "C", "E", "F"]


def test_a_reason_without_an_adverse_effect_decides_nothing() -> None:
    assert outcome_of(()) is Outcome.ACCEPT
    with pytest.raises(DomainError):
        outcome_of((reason("A", Effect.PASS),))


def test_the_first_outcome_is_the_most_severe_so_that_nothing_defaults_to_accept() -> None:
    assert next(iter(Outcome)) is Outcome.REJECT


def test_an_answer_names_what_was_decided() -> None:
    answer = answered(decided("risk", bureau__score=679))
    assert answer["outcome"] == "reject"
    assert answer["next_action"] == "decline"
    assert answer["tier"] == "risk"
    assert answer["policy_version"] == 7
    assert answer["decided_at"] == "2026-01-15T08:00:00.000000Z"
    assert answer["due_at"] is None
    assert answer["ceiling"] == {"amount": 3_000_000, "currency": "CNY"}
    (given,) = answer["reasons"]
    assert (given["code"], given["source"]) == ("BU03", "bureau")
    assert given["text"].keys() == {"en", "zh"}


def test_a_confidential_reason_shows_neither_rule_nor_source() -> None:
    decision = decided(device__ids_on_device_24h=5)
    assert answered(decision)["reasons"] == [
        {"code": None, "text": {"en": NEUTRAL_NOTICE.en, "zh": NEUTRAL_NOTICE.zh}, "source": None}
    ]
    assert b"FR01" not in canonical_bytes(answered(decision))
    assert b"FR01" in canonical_bytes(record_document(decision, decision_id=DECISION_ID))


def test_a_review_is_due_thirty_days_after_the_application_was_complete() -> None:
    assert answered(decided(applicant__residence_months=1))["due_at"] == "2026-02-14T08:00:00.000000Z"
    early = decided(applicant__residence_months=1, completed_at="2026-01-10T08:00:00+08:00")
    assert answered(early)["due_at"] == "2026-02-09T00:00:00.000000Z"
    unstated = decided(applicant__residence_months=1, completed_at=None)
    assert answered(unstated)["due_at"] == "2026-02-14T08:00:00.000000Z"


def test_an_offer_waits_for_the_applicant_and_has_no_due_date() -> None:
    answer = answered(decided("risk", amount=4_000_000))
    assert answer["counter_offer"] == {
        "amount": 3_000_000,
        "currency": "CNY",
        "valid_until": "2026-02-14T08:00:00.000000Z",
    }
    assert answer["due_at"] is None


def test_a_ceiling_that_lacks_its_inputs_is_not_answered() -> None:
    assert answered(decided(applicant__monthly_income=None))["ceiling"] is None


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        (Facts(open_accepts=1), "DU01"),
        (Facts(rejects_elsewhere_30d=1), "DU02"),
        (Facts(applications_30d=4, channels_30d=2), "FR02"),
        (Facts(changes=4), "FR03"),
        (Facts(budget_available=False), "CH02"),
    ],
)
def test_a_fact_turns_an_accept_into_an_escalation(facts: Facts, code: str) -> None:
    decision = decided(facts=facts)
    assert [each.code for each in decision.reasons] == [code]
    waits_for = NextAction.HELD if code == "CH02" else NextAction.REVIEW
    assert (decision.outcome, decision.next_action) == (Outcome.ESCALATE, waits_for)
    assert code not in decision.not_evaluated


@pytest.mark.parametrize(
    "facts",
    [
        Facts(open_accepts=0, rejects_elsewhere_30d=0, changes=3, budget_available=True),
        Facts(applications_30d=3, channels_30d=2),
        Facts(applications_30d=9, channels_30d=1),
    ],
)
def test_facts_at_their_edge_let_an_accept_stand(facts: Facts) -> None:
    assert decided(facts=facts).outcome is Outcome.ACCEPT


def test_rules_whose_facts_were_not_gathered_are_listed() -> None:
    assert decided().not_evaluated == ("CH02", "DU01", "DU02", "FR02", "FR03")
    assert "FR02" in decided(facts=Facts(applications_30d=9)).not_evaluated


def test_an_offer_falls_with_a_fact_against_it() -> None:
    decision = decided("risk", Facts(open_accepts=2), amount=4_000_000)
    assert (decision.next_action, decision.counter_offer) == (NextAction.REVIEW, None)


@pytest.mark.parametrize("document", [{"person.height": 1}, {"person.open_accepts": -1}, {"budget.available": 1}])
def test_facts_that_cannot_be_are_refused(document: dict[str, object]) -> None:
    with pytest.raises(DomainError):
        Facts.from_document(document)


def test_a_record_holds_observed_values_thresholds_and_causes() -> None:
    record: Any = record_document(
        decided("risk", bureau__score=679, all_in_apr_pct=None, unknown=unknown(all_in_apr_pct="source_error")),
        decision_id=DECISION_ID,
    )
    by_code = {each["code"]: each for each in record["reasons"]}
    assert (by_code["BU03"]["observed"], by_code["BU03"]["threshold"]) == (679, 680)
    assert (by_code["AP03"]["observed"], by_code["AP03"]["cause"]) == (None, Unknown.SOURCE_ERROR.value)
    assert record["ceiling"]["not_applied"] == [{"cap": "dti", "field": "all_in_apr_pct", "cause": "source_error"}]
    assert record["ceiling"]["income_used"] == 2_000_000


def test_a_decision_is_the_same_again_years_later() -> None:
    lost = standing("risk")._replace(tier="gold")
    screening = screen(policy(), lost, application(), AT)
    record = record_document(settle(screening, Facts(changes=9)), decision_id=DECISION_ID)
    again = replay(policy(), payload(), json.loads(canonical_bytes(record)))
    assert canonical_bytes(again.record) == canonical_bytes(record)
    assert again.outcome is Outcome.ESCALATE


@pytest.mark.parametrize(
    "spoiled",
    [
        {"engine": "0"},
        {"policy_version": 8},
        {"at": None},
        {"at": "2026-01-15T08:00:00"},
        {"standing": {}},
        {"standing": []},
        {"facts": None},
    ],
)
def test_a_record_that_does_not_belong_or_is_not_whole_is_not_replayed(spoiled: dict[str, Any]) -> None:
    record = record_document(decided(), decision_id=DECISION_ID)
    with pytest.raises(ReplayError):
        replay(policy(), payload(), record | spoiled)


def test_another_version_of_the_same_policy_is_another_policy() -> None:
    record = record_document(decided(), decision_id=DECISION_ID)
    with pytest.raises(ReplayError):
        replay(compile_policy(default_policy(), version=8), payload(), record)
