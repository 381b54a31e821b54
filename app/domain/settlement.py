"""The second step of a decision: what only the transaction knows that makes it durable.

Settlement can turn an accept into an escalation and nothing else: the policy's compiler lets no settlement rule
reject, and no fact takes a reason away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final, NamedTuple

from app.domain.canonical import Json
from app.domain.errors import DomainError
from app.domain.fields import SETTLEMENT_FIELDS, Value
from app.domain.reasons import NextAction, Outcome, Reason, budget_exhausted_reason, outcome_of, ranked
from app.domain.screening import CounterOffer, Screening, next_action

_FACT_FIELDS = {field.name: field for field in SETTLEMENT_FIELDS}
_BUDGET = "budget.available"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known about the person's other applications and the channel's budget. None: not gathered.

    Counts hold for the moment of the transaction; `rejects_elsewhere_30d` are rejections through other channels, and
    `applications_30d` and `channels_30d` count this application and its channel. `budget_available` is whether every
    budget that the accept falls under has room for it; it is gathered for what would be accepted otherwise.
    """

    open_accepts: int | None = None
    rejects_elsewhere_30d: int | None = None
    applications_30d: int | None = None
    channels_30d: int | None = None
    changes: int | None = None
    budget_available: bool | None = None

    def values(self) -> dict[str, Value]:
        """The facts that were gathered, by field name."""
        gathered = ((name, getattr(self, attribute)) for attribute, name in _FIELD_OF_FACT.items())
        return {name: value for name, value in gathered if value is not None}

    def document(self) -> dict[str, Json]:
        """The facts that were gathered, as the record keeps them."""
        return {} if self is NO_FACTS else dict(self.values())

    @classmethod
    def from_document(cls, document: Mapping[str, object]) -> Facts:
        """The inverse of `document`.

        Raises:
            DomainError: for a fact that there is not, or a value that it cannot have.
        """
        facts: dict[str, Value] = {}
        for name, raw in document.items():
            if name not in _FACT_FIELDS:
                raise DomainError(f"there is no fact {name}")
            try:
                facts[_FACT_OF_FIELD[name]] = _FACT_FIELDS[name].encode(raw)
            except ValueError as error:
                raise DomainError(f"{name} {error}") from None
        return cls(**facts)  # type: ignore[arg-type]  # each value has just been encoded by its own field


_FIELD_OF_FACT: Final = {
    "open_accepts": "person.open_accepts",
    "rejects_elsewhere_30d": "person.rejects_elsewhere_30d",
    "applications_30d": "person.applications_30d",
    "channels_30d": "person.channels_30d",
    "changes": "application.changes",
    "budget_available": _BUDGET,
}
_FACT_OF_FIELD: Final = {name: fact for fact, name in _FIELD_OF_FACT.items()}

if set(_FIELD_OF_FACT) != {field.name for field in fields(Facts)} or set(_FACT_OF_FIELD) != set(_FACT_FIELDS):
    raise RuntimeError("facts and the fields of settlement must be the same")  # said at import, not at a decision

NO_FACTS: Final = Facts()


class Decision(NamedTuple):
    """The whole decision. `not_evaluated` are the codes of settlement rules whose facts nobody gathered."""

    screening: Screening
    facts: Facts
    reasons: tuple[Reason, ...]
    outcome: Outcome
    next_action: NextAction
    counter_offer: CounterOffer | None
    not_evaluated: tuple[str, ...]


def settle(screening: Screening, facts: Facts = NO_FACTS) -> Decision:
    """The decision that follows from the screening and the facts.

    A rule is evaluated only where every fact that it reads was gathered; the others are listed.
    """
    rules = screening.policy.rules(screening.standing.rules_tier)
    known = {} if facts is NO_FACTS else facts.values()
    if not known:
        return Decision(
            screening=screening,
            facts=facts,
            reasons=screening.reasons,
            outcome=screening.outcome,
            next_action=screening.next_action,
            counter_offer=screening.counter_offer,
            not_evaluated=rules.settlement_codes,
        )
    values = {**screening.values, **known}
    reasons: list[Reason] = []
    not_evaluated = []
    for rule in rules.settlement:
        if any(name in _FACT_FIELDS and name not in known for name in rule.fields):
            not_evaluated.append(rule.code)
        elif (reason := rule.judge(values, screening.unknown)) is not None:
            reasons.append(reason)
    if facts.budget_available is False and not any(reason.field == _BUDGET for reason in reasons):
        reasons.append(budget_exhausted_reason())
    in_order = ranked((*screening.reasons, *reasons)) if reasons else screening.reasons
    return _decision(screening, facts, in_order, tuple(not_evaluated))


def _decision(
    screening: Screening, facts: Facts, reasons: tuple[Reason, ...], not_evaluated: tuple[str, ...]
) -> Decision:
    outcome = outcome_of(reasons)
    if screening.outcome is Outcome.REJECT and outcome is not Outcome.REJECT:
        raise DomainError("settlement made a rejection milder")
    if screening.outcome is Outcome.ESCALATE and outcome is Outcome.ACCEPT:
        raise DomainError("settlement made an escalation an accept")
    if outcome is Outcome.REJECT and screening.outcome is not Outcome.REJECT:
        raise DomainError("settlement may not reject")
    offer = screening.counter_offer if reasons == screening.reasons else None
    return Decision(
        screening=screening,
        facts=facts,
        reasons=reasons,
        outcome=outcome,
        next_action=NextAction.HELD if _is_held(outcome, reasons) else next_action(outcome, offer),
        counter_offer=offer,
        not_evaluated=not_evaluated,
    )


def _is_held(outcome: Outcome, reasons: tuple[Reason, ...]) -> bool:
    """Whether nothing but the budget of the source stands in the way of an accept."""
    return outcome is Outcome.ESCALATE and all(reason.field == _BUDGET for reason in reasons)
