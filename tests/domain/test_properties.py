"""What holds for every application, whatever it carries."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import orjson
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from app.domain.canonical import canonical_bytes
from app.domain.channel import ChannelState
from app.domain.compiler import compile_policy
from app.domain.errors import PolicyError
from app.domain.fields import EMPLOYMENT_TYPES, INCOME_VERIFICATION, FieldKind
from app.domain.intake import read_application
from app.domain.policy import Effect, Op
from app.domain.policy_changes import with_threshold
from app.domain.reasons import NextAction, Outcome
from app.domain.record import record_document, replay, response_document
from app.domain.screening import screen
from app.domain.settlement import Facts, settle
from tests.domain.builders import AT, DECISION_ID, TIERS, policy, standing

SEVERITY = {Outcome.ACCEPT: 0, Outcome.ESCALATE: 1, Outcome.REJECT: 2}
CAUSES = ("not_requested", "not_found", "source_error")


Values = st.SearchStrategy[Any]


def requests(often: Callable[[Values, Values], Values]) -> st.SearchStrategy[dict[str, Any]]:
    """Requests of the right form. `often` chooses between values that no rule minds and any value of the field."""

    def count(good_from: int, good_to: int, largest: int) -> Values:
        return often(st.integers(good_from, good_to), st.integers(0, largest))

    sections = {
        "applicant": {
            "applicant_ref": often(st.just("p-1"), st.text("ab-é风", min_size=1, max_size=128)),
            "birth_date": often(st.dates(AT.date().replace(1950), AT.date().replace(2008)), st.dates()),
            "age_years": count(18, 90, 150),
            "employment_type": st.sampled_from(EMPLOYMENT_TYPES),
            "employment_months": count(12, 400, 1_200),
            "residence_months": count(12, 400, 1_800),
            "monthly_income": often(st.integers(600_000, 5_000_000), money),
            "income_verification": often(st.sampled_from(("payroll", "tax")), st.sampled_from(INCOME_VERIFICATION)),
            "monthly_obligations": often(st.integers(0, 200_000), money),
        },
        "bureau": {
            "hit": often(st.just(value=True), st.booleans()),
            "score": count(680, 850, 10_000),
            "history_months": count(12, 300, 1_800),
            "max_dpd_12m": count(0, 29, 10_000),
            "current_dpd_own": count(0, 0, 10),
            "inquiries_3m": count(0, 4, 100),
            "active_lenders": count(0, 3, 100),
            "bankruptcy_months_ago": count(84, 200, 1_800),
            "open_judgment": often(st.just(value=False), st.booleans()),
            "pulled_at": often(instants(30), instants(60)),
        },
        "device": {"ids_on_device_24h": count(0, 2, 10)},
        "business": {
            "months_trading": count(24, 200, 6_000),
            "annual_revenue": often(st.integers(50_000_000, 10**9), money),
        },
    }
    return st.fixed_dictionaries(
        {
            "application_id": st.just("a-1"),
            "channel_code": st.just("own-app"),
            "product": st.sampled_from(("unsecured_consumer", "small_business")),
            "amount": often(st.integers(100_000, 2_000_000), st.integers(100_000, 10**15)),
            "currency": st.just("CNY"),
            "term_months": st.integers(1, 60),
            "consent_at": st.just(AT),
            "completed_at": st.none() | instants(60),
            "all_in_apr_pct": often(st.decimals(0, 24, places=2), st.decimals(0, 1_000, places=2)),
            **{section: st.fixed_dictionaries(columns) for section, columns in sections.items()},
        }
    )


def instants(days: int) -> Values:
    return st.integers(-days * 86_400, 0).map(lambda seconds: AT + timedelta(seconds=seconds))


money = st.integers(0, 10**15)
clean = requests(lambda good, _any_value: good)
wild = requests(st.one_of)


@st.composite
def disturbed(draw: st.DrawFn) -> dict[str, Any]:
    """A clean request in which a few values are any of their field, or unknown."""
    request, other = draw(clean), draw(wild)
    places = [(section, name) for section in ("applicant", "bureau", "device", "business") for name in request[section]]
    for section, name in draw(st.lists(st.sampled_from(places), max_size=4)):
        request[section][name] = other[section][name] if draw(st.booleans()) else None
    return request | {"amount": draw(st.sampled_from((request["amount"], other["amount"])))}


payloads = st.one_of(clean, disturbed(), disturbed(), wild)
tiers = st.sampled_from(TIERS)
facts = st.builds(
    Facts,
    open_accepts=st.none() | st.integers(0, 3),
    rejects_elsewhere_30d=st.none() | st.integers(0, 3),
    applications_30d=st.none() | st.integers(0, 6),
    channels_30d=st.none() | st.integers(0, 4),
    changes=st.none() | st.integers(0, 6),
    budget_available=st.none() | st.booleans(),
)


@settings(max_examples=150, deadline=None)
@given(payloads, tiers, st.booleans())
def test_every_valid_application_has_exactly_one_outcome_and_its_reasons(
    payload: dict[str, Any], tier: str, served: bool
) -> None:
    state = ChannelState.ACTIVE if served else ChannelState.SUSPENDED
    screening = screen(policy(), standing(tier, served=served, state=state), read_application(payload, policy()), AT)
    effects = {reason.effect for reason in screening.reasons}
    expected = Outcome.REJECT if Effect.REJECT in effects else Outcome.ESCALATE if effects else Outcome.ACCEPT
    assert screening.outcome is expected
    assert Effect.PASS not in effects
    assert served or screening.outcome is Outcome.REJECT
    assert (screening.next_action is NextAction.COUNTER_OFFER) == (screening.counter_offer is not None)
    order = [(reason.effect is not Effect.REJECT, reason.priority) for reason in screening.reasons]
    assert order == sorted(order)


@settings(max_examples=150, deadline=None)
@given(payloads, tiers, st.data())
def test_tightening_a_threshold_never_makes_an_outcome_milder(
    payload: dict[str, Any], tier: str, data: st.DataObject
) -> None:
    rules = [
        rule
        for rule in policy().document.rules
        if policy().fields[rule.field].kind in {FieldKind.NUMBER, FieldKind.MONEY, FieldKind.RATIO}
    ]
    rule = data.draw(st.sampled_from(rules))
    field = policy().fields[rule.field]
    raw = rule.thresholds[tier]
    assert raw is not None
    assert not isinstance(raw, tuple)
    before = field.encode(raw)
    assert isinstance(before, int)
    step = data.draw(st.integers(1, max(before, 10)))
    after = before + step if rule.op in {Op.AT_LEAST, Op.ABOVE} else before - step
    assume(field.minimum <= after <= field.maximum)
    try:
        tightened = compile_policy(with_threshold(policy().document, rule.code, tier, field.display(after)).document())
    except PolicyError:
        assume(condition=False)  # below the ceiling's own limit: refused, as it has to be
    application = read_application(payload, policy())
    lax = screen(policy(), standing(tier), application, AT).outcome
    strict = screen(tightened, standing(tier), application, AT).outcome
    assert SEVERITY[strict] >= SEVERITY[lax]


@settings(max_examples=120, deadline=None)
@given(payloads, tiers, st.sampled_from(("tier_cap", "income_multiple", "dti_max_pct")), st.integers(1, 99))
def test_tightening_a_cap_never_makes_an_outcome_milder(
    payload: dict[str, Any], tier: str, cap: str, share_pct: int
) -> None:
    document = policy().document.document()
    ceiling = document["ceiling"]
    assert isinstance(ceiling, dict)
    caps: Any = ceiling[cap]
    hundredths = int(caps[tier]) * share_pct
    caps[tier] = max(1, hundredths // 100) if cap == "tier_cap" else f"{hundredths // 100}.{hundredths % 100:02d}"
    tightened = compile_policy(document)
    application = read_application(payload, policy())
    lax = screen(policy(), standing(tier), application, AT).outcome
    assert SEVERITY[screen(tightened, standing(tier), application, AT).outcome] >= SEVERITY[lax]


AGE = {"applicant.birth_date", "applicant.age_years"}


def paths(payload: Mapping[str, Any]) -> list[str]:
    return [f"{section}.{name}" for section in ("applicant", "bureau", "device") for name in payload[section] or {}]


@settings(max_examples=150, deadline=None)
@given(payloads, tiers, st.data())
def test_unknown_never_accepts_where_a_rule_needs_the_field(
    payload: dict[str, Any], tier: str, data: st.DataObject
) -> None:
    path, cause = data.draw(st.sampled_from(paths(payload))), data.draw(st.sampled_from(CAUSES))
    section, _, name = path.partition(".")
    payload[section][name] = None
    if path in AGE:
        payload["applicant"] |= dict.fromkeys(("birth_date", "age_years"))
    application = read_application(payload | {"unknown": {path: cause}}, policy())
    screening = screen(policy(), standing(tier), application, AT)
    needed = any(
        rule.field == path
        and rule.if_missing is not None
        and rule.if_missing.effect(application.cause(path)) is not Effect.PASS
        and all(
            (value := screening.values.get(condition.field)) is not None
            and (value == condition.value) is (condition.op is Op.IS)
            for condition in rule.when
        )
        for rule in policy().document.rules
    )
    if needed or path in AGE:
        assert screening.outcome is not Outcome.ACCEPT


@settings(max_examples=150, deadline=None)
@given(clean, tiers, tiers, st.integers(1, 10**8))
def test_a_loan_at_the_offered_ceiling_is_accepted(
    payload: dict[str, Any], rules_tier: str, other: str, extra: int
) -> None:
    ceiling_tier = max(rules_tier, other, key=TIERS.index)
    standing_of = standing(rules_tier)._replace(ceiling_tier=ceiling_tier)
    small = read_application(payload | {"amount": 100_000}, policy())
    first = screen(policy(), standing_of, small, AT)
    assume(first.outcome is Outcome.ACCEPT)
    above = read_application(payload | {"amount": first.ceiling.amount + extra}, policy())
    offered = screen(policy(), standing_of, above, AT)
    assert offered.next_action is NextAction.COUNTER_OFFER
    assert offered.counter_offer is not None
    assert offered.counter_offer.valid_until == AT + timedelta(days=30)
    taken = read_application(payload | {"amount": offered.counter_offer.amount}, policy())
    assert screen(policy(), standing_of, taken, AT).outcome is Outcome.ACCEPT


@settings(max_examples=150, deadline=None)
@given(payloads, tiers, facts)
def test_settlement_can_only_turn_an_accept_into_an_escalation(
    payload: dict[str, Any], tier: str, known: Facts
) -> None:
    screening = screen(policy(), standing(tier), read_application(payload, policy()), AT)
    decision = settle(screening, known)
    if screening.outcome is not Outcome.ACCEPT:
        assert decision.outcome is screening.outcome
    else:
        assert decision.outcome in {Outcome.ACCEPT, Outcome.ESCALATE}
    assert set(screening.reasons) <= set(decision.reasons)
    assert Facts.from_document(json.loads(canonical_bytes(known.document()))) == known


@settings(max_examples=150, deadline=None)
@given(payloads, tiers, facts)
def test_a_replay_gives_identical_bytes_and_any_encoder_the_same(
    payload: dict[str, Any], tier: str, known: Facts
) -> None:
    decision = settle(screen(policy(), standing(tier), read_application(payload, policy()), AT), known)
    response = response_document(decision, decision_id=DECISION_ID)
    record = record_document(decision, decision_id=DECISION_ID)
    for document in (response, record):
        assert orjson.dumps(document, option=orjson.OPT_SORT_KEYS) == canonical_bytes(document)
    stored_input = json.loads(json.dumps(payload, default=str))
    again = replay(policy(), stored_input, json.loads(canonical_bytes(record)))
    assert again.outcome is decision.outcome
    assert canonical_bytes(again.response) == canonical_bytes(response)
    assert canonical_bytes(again.record) == canonical_bytes(record)


@settings(max_examples=120, deadline=None)
@given(payloads, tiers)
def test_the_answer_shows_no_threshold_no_observed_value_and_no_confidential_code(
    payload: dict[str, Any], tier: str
) -> None:
    decision = settle(screen(policy(), standing(tier), read_application(payload, policy()), AT))
    response = response_document(decision, decision_id=DECISION_ID)
    assert isinstance(response["reasons"], list)
    assert len(response["reasons"]) <= 4
    assert bool(response["reasons"]) == (decision.outcome is not Outcome.ACCEPT)
    for reason in response["reasons"]:
        assert isinstance(reason, dict)
        assert reason.keys() == {"code", "text", "source"}
        assert not str(reason["code"]).startswith("FR")
