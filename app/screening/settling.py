"""What a decision is settled with before the transaction has spoken: what is expected, and what it has said since."""

from __future__ import annotations

from time import monotonic
from typing import Final, NamedTuple

import orjson

from app.domain.application import LoanApplication
from app.domain.budget import BudgetBook, Line
from app.domain.reasons import Outcome
from app.domain.screening import Screening
from app.domain.settlement import Decision, Facts, settle

FRESH: Final = Facts(
    open_accepts=0, rejects_elsewhere_30d=0, applications_30d=1, channels_30d=1, changes=0, budget_available=True
)
"""A person whom the log does not know, and room in every budget: what is expected of everybody at first."""
_FRESH_FULL: Final = Facts(
    open_accepts=0, rejects_elsewhere_30d=0, applications_30d=1, channels_30d=1, changes=0, budget_available=False
)
_FRESH_UNASKED: Final = Facts(
    open_accepts=0, rejects_elsewhere_30d=0, applications_30d=1, channels_30d=1, changes=0, budget_available=None
)
_HINT_SECONDS = 0.5
_FRESH_VALUES: Final = (0, 0, 1, 1, 0)
_FRESH_TEXT: Final = "0 0 1 1 0"
_NAMED = ("open_accepts", "rejects_elsewhere_30d", "applications_30d", "channels_30d", "changes")


class Settled(NamedTuple):
    """A decision under facts that the flush has yet to confirm. `lines` are what its budgets have to say to it."""

    decision: Decision
    lines: tuple[Line, ...]


class ExhaustedBudgets:
    """Which budgets had no room a moment ago. A hint that saves a round: the flush finds out where it is wrong."""

    def __init__(self) -> None:
        self._until: dict[int, tuple[int, float]] = {}

    def note(self, lines: tuple[Line, ...]) -> None:
        """These could not be taken together; with one line it is known which."""
        if len(lines) == 1:
            budget_id, units = lines[0]
            self._until[budget_id] = (units, monotonic() + _HINT_SECONDS)

    def expected(self, lines: tuple[Line, ...]) -> bool:
        """Whether one of them is likely to have no room."""
        if not self._until:
            return False
        now = monotonic()
        for budget_id, units in lines:
            known = self._until.get(budget_id)
            if known is not None and units >= known[0]:
                if now < known[1]:
                    return True
                del self._until[budget_id]
        return False


def settle_expecting(
    screening: Screening, told: Facts | None, budgets: BudgetBook, exhausted: ExhaustedBudgets
) -> Settled:
    """Settle under what the flush has told of this application, or under what is expected of one that is new.

    A budget is asked only for what would be accepted otherwise: nothing else takes of it.
    """
    application, standing = screening.application, screening.standing
    lines = budgets.lines(
        channel_id=standing.channel_id,
        tier=standing.tier,
        product=application.product,
        jurisdiction=application.jurisdiction,
        currency=application.currency,
        amount=application.amount,
    )
    if lines and screening.outcome is not Outcome.ACCEPT:
        return Settled(settle(screening, _facts(application, told, available=None)), ())
    decision = settle(screening, _facts(application, told, available=True))
    if not lines:
        return Settled(decision, ())
    if decision.outcome is not Outcome.ACCEPT:
        return Settled(settle(screening, _facts(application, told, available=None)), ())
    available = None if told is None else told.budget_available
    if available is None:
        available = not exhausted.expected(lines)
    if available:
        return Settled(decision, lines)
    return Settled(settle(screening, _facts(application, told, available=False)), lines)


def _facts(application: LoanApplication, told: Facts | None, *, available: bool | None) -> Facts:
    if told is not None:
        return Facts(**{name: getattr(told, name) for name in _NAMED}, budget_available=available)
    if application.applicant_ref is None:
        return Facts(changes=0, budget_available=available)
    return FRESH if available else _FRESH_UNASKED if available is None else _FRESH_FULL


def facts_text(facts: Facts) -> str:
    """The facts of the person as the flush compares them; "-" where there is nobody to know them of."""
    values = (
        facts.open_accepts,
        facts.rejects_elsewhere_30d,
        facts.applications_30d,
        facts.channels_30d,
        facts.changes,
    )
    return (
        _FRESH_TEXT if values == _FRESH_VALUES else " ".join(["-" if value is None else str(value) for value in values])
    )


def told_facts(document: bytes) -> Facts:
    """What the flush says of an application that it could not store as it was settled.

    Raises:
        DomainError: where this version of the service does not know such a fact.
    """
    return Facts.from_document(orjson.loads(document))
