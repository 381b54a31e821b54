"""What is written down about a decision: the answer for the origination system, and the whole of it for everyone else.

Both are plain objects of text, whole numbers, booleans, null, lists and objects with ASCII keys, so that any canonical
JSON encoder gives the same bytes. The record holds what a replay needs besides the stored input.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Final, NamedTuple

from app.domain.canonical import Json, instant_text, parse_instant
from app.domain.channel import ChannelId, ChannelState, Standing
from app.domain.compiled import CompiledPolicy
from app.domain.errors import DomainError
from app.domain.intake import read_application
from app.domain.policy import Text
from app.domain.reasons import NextAction, Outcome, Reason, principal
from app.domain.screening import CounterOffer, screen
from app.domain.settlement import Decision, Facts, settle

ENGINE: Final = "1"
"""The version of what this package computes: raised by a change that would decide a stored input differently."""

NOTICE_PERIOD = timedelta(days=30)
"""From a completed application to notice of what was decided (Reg B, 1002.9(a)(1)); an escalation does not stop it."""


class ReplayError(DomainError):
    """A stored record that this engine or this policy version cannot replay."""


class Documents(NamedTuple):
    """Both documents of one decision."""

    response: dict[str, Json]
    record: dict[str, Json]


def documents(decision: Decision, *, decision_id: str) -> Documents:
    """What is written down about a decision. The two share what they say alike."""
    screening = decision.screening
    shared: dict[str, Json] = {
        "decision_id": decision_id,
        "policy_version": screening.policy.version,
        "outcome": decision.outcome._value_,
        "next_action": decision.next_action._value_,
        "counter_offer": None if decision.counter_offer is None else _offer(decision.counter_offer),
        "due_at": _due_at(decision),
    }
    named = principal(decision.reasons)
    at = instant_text(screening.at)
    return Documents(response=_response(decision, named, shared, at), record=_record(decision, named, shared, at))


def response_document(decision: Decision, *, decision_id: str) -> dict[str, Json]:
    """The answer: no threshold, no observed value, no confidential code."""
    return documents(decision, decision_id=decision_id).response


def record_document(decision: Decision, *, decision_id: str) -> dict[str, Json]:
    """Everything that was decided and from what, but for the input, which is stored beside it."""
    return documents(decision, decision_id=decision_id).record


def _response(decision: Decision, named: tuple[Reason, ...], shared: Mapping[str, Json], at: str) -> dict[str, Json]:
    screening = decision.screening
    application = screening.application
    ceiling: Json = {"amount": screening.ceiling.amount, "currency": application.currency}
    for reason in decision.reasons:
        if reason.code == screening.policy.ceiling.code and reason.cause is not None:
            ceiling = None  # it could not be verified
    return {
        **shared,
        "application_id": application.application_id,
        "revision": application.revision,
        "channel_code": screening.standing.code,
        "reasons": [_notice(reason) for reason in named],
        "tier": screening.standing.tier,
        "ceiling": ceiling,
        "decided_at": at,
    }


def _record(decision: Decision, named: tuple[Reason, ...], shared: Mapping[str, Json], at: str) -> dict[str, Json]:
    standing = decision.screening.standing
    return {
        **shared,
        "engine": ENGINE,
        "at": at,
        "standing": {
            "channel_id": standing.channel_id,
            "code": standing.code,
            "state": standing.state._value_,
            "served": standing.served,
            "tier": standing.tier,
            "rules_tier": standing.rules_tier,
            "ceiling_tier": standing.ceiling_tier,
        },
        "facts": decision.facts.document(),
        "not_evaluated": list(decision.not_evaluated),
        "reasons": [_reason(reason, is_principal=any(reason is each for each in named)) for reason in decision.reasons],
        "ceiling": _ceiling(decision),
    }


class Replay(NamedTuple):
    """A decision made again from what was stored."""

    decision: Decision
    outcome: Outcome
    response: dict[str, Json]
    record: dict[str, Json]


def replay(policy: CompiledPolicy, payload: Mapping[str, object], record: Mapping[str, Json]) -> Replay:
    """Decide the stored input again under the stored context.

    Raises:
        ReplayError: where the record was made by another engine or under another version, or is not whole.
        ApplicationError, ConsentMissingError: where the input does not belong to the policy.
    """
    if record.get("engine") != ENGINE:
        raise ReplayError("the record was made by another engine")
    if record.get("policy_version") != policy.version:
        raise ReplayError("the record was made under another policy version")
    try:
        at = parse_instant(_text(record, "at"))
        decision_id = _text(record, "decision_id")
        standing = _standing(_object(record, "standing"))
        facts = Facts.from_document(_object(record, "facts"))
    except (KeyError, TypeError, ValueError) as error:
        raise ReplayError(f"the record is not whole: {type(error).__name__}") from error
    decision = settle(screen(policy, standing, read_application(payload, policy), at), facts)
    made = documents(decision, decision_id=decision_id)
    return Replay(decision, decision.outcome, made.response, made.record)


def _standing(stored: Mapping[str, Json]) -> Standing:
    channel_id, served = stored["channel_id"], stored["served"]
    if not isinstance(channel_id, int) or not isinstance(served, bool):
        raise TypeError("a standing has a channel and says whether it is served")
    return Standing(
        channel_id=ChannelId(channel_id),
        code=_text(stored, "code"),
        state=ChannelState(_text(stored, "state")),
        served=served,
        tier=_text(stored, "tier"),
        rules_tier=_text(stored, "rules_tier"),
        ceiling_tier=_text(stored, "ceiling_tier"),
    )


def _text(stored: Mapping[str, Json], key: str) -> str:
    value = stored[key]
    if not isinstance(value, str):
        raise TypeError(f"{key} is not text")
    return value


def _object(stored: Mapping[str, Json], key: str) -> dict[str, Json]:
    value = stored[key]
    if not isinstance(value, dict):
        raise TypeError(f"{key} is not an object")
    return value


def _notice(reason: Reason) -> Json:
    """A principal reason as the notice may give it; a confidential one says neither its rule nor its source."""
    hidden = reason.confidential
    return {
        "code": None if hidden else reason.code,
        "text": _texts(reason.notice),
        "source": None if hidden else reason.source.value,
    }


def _reason(reason: Reason, *, is_principal: bool) -> Json:
    return {
        "code": reason.code,
        "field": reason.field,
        "observed": reason.observed,
        "threshold": reason.threshold,
        "effect": reason.effect.value,
        "cause": None if reason.cause is None else reason.cause.value,
        "text": _texts(reason.text),
        "source": reason.source.value,
        "priority": reason.priority,
        "confidential": reason.confidential,
        "principal": is_principal,
    }


def _ceiling(decision: Decision) -> Json:
    ceiling = decision.screening.ceiling
    return {
        "amount": ceiling.amount,
        "currency": decision.screening.application.currency,
        "binding": ceiling.binding,
        "applied": [{"cap": cap, "amount": amount} for cap, amount in ceiling.applied],
        "not_applied": [{"cap": cap.cap, "field": cap.field, "cause": cap.cause.value} for cap in ceiling.not_applied],
        "income_used": ceiling.income.amount,
    }


def _offer(offer: CounterOffer) -> Json:
    return {"amount": offer.amount, "currency": offer.currency, "valid_until": instant_text(offer.valid_until)}


def _due_at(decision: Decision) -> str | None:
    """When notice is due for what waits for a reviewer, or for a budget."""
    if decision.next_action not in {NextAction.REVIEW, NextAction.HELD}:
        return None
    screening = decision.screening
    return instant_text((screening.application.completed_at or screening.at) + NOTICE_PERIOD)


def _texts(text: Text) -> Json:
    return {"en": text.en, "zh": text.zh}
