"""The first step of a decision: what the request alone says, under the tier that its channel stands in."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from app.domain.application import LoanApplication, Unknown
from app.domain.ceiling import Ceiling, debt_ratio_after_loan, find_ceiling, ratio_bps
from app.domain.channel import Channel, ChannelState, Standing
from app.domain.compiled import CompiledPolicy, UnknownTierError, probation_tiers
from app.domain.errors import ConsentMissingError, UnknownChannelError
from app.domain.fields import Source, Value
from app.domain.policy import Effect
from app.domain.reasons import NextAction, Outcome, Reason, outcome_of, ranked, tier_unknown_reason
from app.domain.requirements import judge_all

CLOCK_SKEW = timedelta(minutes=5)
"""How far ahead of the server's clock an originator's may run before its instants count as undefined."""

_CAP_SOURCES = {"tier_cap": Source.CHANNEL, "income_multiple": Source.APPLICANT, "dti": Source.APPLICANT}


class CounterOffer(NamedTuple):
    """What the applicant may have instead: accepted by a new revision before `valid_until`. Minor units."""

    amount: int
    currency: str
    valid_until: datetime


class Screening(NamedTuple):
    """What the request alone decides, with everything that it was decided from.

    `values` and `unknown` are the application's with what the gate derived; `reasons` are ranked.
    """

    policy: CompiledPolicy
    standing: Standing
    application: LoanApplication
    at: datetime
    values: Mapping[str, Value]
    unknown: Mapping[str, Unknown]
    ceiling: Ceiling
    reasons: tuple[Reason, ...]
    outcome: Outcome
    next_action: NextAction
    counter_offer: CounterOffer | None


def stand(policy: CompiledPolicy, channel: Channel, application: LoanApplication, at: datetime) -> Standing:
    """How the channel stands for this application at that moment.

    The tier is that of the most specific scope, or the policy's default where nothing is assigned. A channel on
    probation has the rules and the ceiling that the policy names for it, or those of its own tier where that is
    stricter. A tier that the policy does not have stands with the strictest rules, and `screen` escalates it.

    Raises:
        UnknownChannelError: where the channel is not on the named list at that moment.
    """
    if not channel.listed(at):
        raise UnknownChannelError("the channel is not on the named list")
    assigned = channel.tier(application.product, application.jurisdiction, at)
    tier = assigned or policy.document.default_tier
    if tier not in policy.tiers:
        rules_tier = ceiling_tier = policy.strictest_tier
    elif channel.state is ChannelState.PROBATION:
        rules_tier, ceiling_tier = probation_tiers(policy.document, policy.tiers, assigned)
        tier = rules_tier
    else:
        rules_tier = ceiling_tier = tier
    return Standing(
        channel_id=channel.channel_id,
        code=channel.code,
        state=channel.state,
        served=channel.served(at),
        tier=tier,
        rules_tier=rules_tier,
        ceiling_tier=ceiling_tier,
    )


def screen(policy: CompiledPolicy, standing: Standing, application: LoanApplication, at: datetime) -> Screening:
    """Evaluate every rule that needs nothing but the request, and the ceiling. Pure: `at` is the server's time, aware.

    Raises:
        UnknownTierError: where the standing names rules or a ceiling that the policy does not have.
        ConsentMissingError: where the policy requires consent and it is still to come.
    """
    if at.tzinfo is None:
        raise ValueError("the moment of a decision needs a UTC offset")
    if policy.consent_required and not consented(application.consent_at, at):
        raise ConsentMissingError("the policy requires the applicant's consent")
    rules = policy.rules(standing.rules_tier)
    if standing.ceiling_tier not in policy.tiers:
        raise UnknownTierError(f"the policy has no tier {standing.ceiling_tier}")
    values, unknown = _derived(policy, standing, application, at)
    reasons = judge_all(rules.request, values, unknown)
    ceiling = find_ceiling(policy, standing.ceiling_tier, application)
    if rules.ceiling:
        offered = min(application.amount, ceiling.amount)
        ratio = debt_ratio_after_loan(application, ceiling.income, offered)
        _derive(values, unknown, "dti_after_loan_pct", ratio)
        reasons += judge_all(rules.ceiling, values, unknown)
    if standing.tier not in policy.tiers:
        reasons.append(tier_unknown_reason(standing.tier))
    exceeded = application.amount > ceiling.amount
    offerable = exceeded and not reasons and ceiling.amount >= policy.products[application.product].minimum_amount
    if ceiling.not_applied:
        unverified = _not_applied_reasons(policy, ceiling)
        reasons += unverified
        offerable = offerable and not unverified
    if exceeded:
        reasons.append(_exceeded_reason(policy, application, ceiling))
    in_order = ranked(reasons) if reasons else ()
    outcome = outcome_of(in_order)
    offer = None
    if offerable and outcome is Outcome.ESCALATE:
        valid_until = at + timedelta(days=policy.document.offer_valid_days)
        offer = CounterOffer(amount=ceiling.amount, currency=application.currency, valid_until=valid_until)
    return Screening(
        policy=policy,
        standing=standing,
        application=application,
        at=at,
        values=values,
        unknown=unknown,
        ceiling=ceiling,
        reasons=in_order,
        outcome=outcome,
        next_action=next_action(outcome, offer),
        counter_offer=offer,
    )


def consented(consent_at: datetime | None, at: datetime) -> bool:
    """Whether consent had been given at that moment: one of the future is none yet."""
    return consent_at is not None and (consent_at <= at or consent_at - at <= CLOCK_SKEW)


def next_action(outcome: Outcome, offer: CounterOffer | None) -> NextAction:
    """What follows an outcome; an escalation with an offer waits for the applicant, not for a reviewer."""
    match outcome:
        case Outcome.ACCEPT:
            return NextAction.PROCEED
        case Outcome.REJECT:
            return NextAction.DECLINE
        case Outcome.ESCALATE:
            return NextAction.REVIEW if offer is None else NextAction.COUNTER_OFFER


def outcomes_by_tier(
    policy: CompiledPolicy, standing: Standing, application: LoanApplication, at: datetime
) -> dict[str, Outcome]:
    """What the request would have come to under each tier of the policy, in order of rank; all else equal."""
    return {
        tier.code: screen(
            policy,
            standing._replace(tier=tier.code, rules_tier=tier.code, ceiling_tier=tier.code),
            application,
            at,
        ).outcome
        for tier in sorted(policy.tiers.values(), key=lambda tier: tier.rank)
    }


def tier_decisive(outcome: Outcome, by_tier: Mapping[str, Outcome]) -> bool:
    """Whether another tier would have led to another outcome."""
    return any(other is not outcome for other in by_tier.values())


# What the gate derives ------------------------------------------------------------------------------------------------


def _derived(
    policy: CompiledPolicy, standing: Standing, application: LoanApplication, at: datetime
) -> tuple[dict[str, Value], dict[str, Unknown]]:
    values = dict(application.values)
    unknown = dict(application.unknown)
    values["channel.served"] = standing.served
    birth_date = values.get("applicant.birth_date")
    if birth_date is not None:
        values.pop("applicant.age_years", None)  # what was stated gives way to what follows from the date
        _derive(values, unknown, "applicant.age_years", _age_years(int(birth_date), at))
    elif "applicant.age_years" not in values and "applicant.age_years" not in unknown:
        unknown["applicant.age_years"] = application.cause("applicant.birth_date")
    if application.bureau_pulled_at is None:
        unknown["bureau.age_days"] = application.cause("bureau.pulled_at")
    else:
        _derive(values, unknown, "bureau.age_days", _age_days(application.bureau_pulled_at, at))
    income = values.get("applicant.monthly_income")
    obligations = values.get("applicant.monthly_obligations")
    if income is None or obligations is None:
        missing = "applicant.monthly_income" if income is None else "applicant.monthly_obligations"
        unknown["existing_dti_pct"] = application.cause(missing)
    else:
        ratio = ratio_bps(int(obligations), int(income)) if income else Unknown.UNDEFINED
        _derive(values, unknown, "existing_dti_pct", ratio)
    mandatory = policy.products[application.product].mandatory
    values["application.missing_fields"] = len([name for name in mandatory if name not in values])
    return values, unknown


def _derive(values: dict[str, Value], unknown: dict[str, Unknown], name: str, derived: int | Unknown) -> None:
    if isinstance(derived, Unknown):
        unknown[name] = derived
    else:
        values[name] = derived


def _age_years(birth_ordinal: int, at: datetime) -> int | Unknown:
    """Completed years at the UTC date of `at`; undefined for a birth that lies ahead."""
    born = date.fromordinal(birth_ordinal)
    today = at.date() if at.tzinfo is UTC else at.astimezone(UTC).date()
    if born > today:
        return Unknown.UNDEFINED
    return today.year - born.year - ((today.month, today.day) < (born.month, born.day))


def _age_days(pulled_at: datetime, at: datetime) -> int | Unknown:
    """Days since the bureau was asked, rounded up, so that anything older than n days is more than n."""
    if pulled_at > at:
        return 0 if pulled_at - at <= CLOCK_SKEW else Unknown.UNDEFINED
    elapsed = at - pulled_at
    return elapsed.days + (elapsed.seconds > 0 or elapsed.microseconds > 0)


# What the ceiling says ------------------------------------------------------------------------------------------------


def _not_applied_reasons(policy: CompiledPolicy, ceiling: Ceiling) -> list[Reason]:
    """One reason for each field that keeps caps from being computed, where the policy minds."""
    terms = policy.ceiling
    reasons = []
    for name, cause in {missing.field: missing.cause for missing in ceiling.not_applied}.items():
        effect = terms.if_inputs_missing.effect(cause)
        if effect is not Effect.PASS:
            reasons.append(
                Reason(
                    code=terms.code,
                    field=name,
                    observed=None,
                    threshold=None,
                    effect=effect,
                    cause=cause,
                    text=terms.missing_reason,
                    source=policy.fields[name].source,
                    priority=terms.priority,
                )
            )
    return reasons


def _exceeded_reason(policy: CompiledPolicy, application: LoanApplication, ceiling: Ceiling) -> Reason:
    """The amount is above the ceiling, said with the reason of the cap that binds."""
    terms = policy.ceiling
    too_small = ceiling.amount < policy.products[application.product].minimum_amount
    return Reason(
        code=terms.code,
        field="amount",
        observed=application.amount,
        threshold=ceiling.amount,
        effect=terms.below_minimum_effect if too_small else terms.effect,
        cause=None,
        text=terms.reasons[ceiling.binding],
        source=_CAP_SOURCES.get(ceiling.binding, Source.APPLICATION),
        priority=terms.priority,
        distance_ppm=(application.amount - ceiling.amount) * 1_000_000 // max(ceiling.amount, 1),
    )
