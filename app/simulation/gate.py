"""The gate in a simulated month: the compiled policy decides, budgets hold back, reviewers and customers answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from app.domain.compiled import CompiledPolicy
from app.domain.reasons import NextAction, Outcome
from app.simulation.applicants import Applicants, batch_of
from app.tiering.arrays import Flags, Integers
from app.whatif.evaluation import ACTIONS, OUTCOMES, evaluate

REVIEWER_ACCEPTS: Final = 0.35
OFFER_TAKEN: Final = 0.6
TAKE_UP: Final = 0.8

_ACCEPT = OUTCOMES.index(Outcome.ACCEPT)
_REVIEW = ACTIONS.index(NextAction.REVIEW)
_OFFER = ACTIONS.index(NextAction.COUNTER_OFFER)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Month:
    """What became of a month's applications: `funded` are rows of the applicants, `amount` what each got.

    accepted, escalated, held: counts by channel. held: what a budget kept from being accepted.
    """

    funded: Integers
    amount: Integers
    applied: Integers
    accepted: Integers
    escalated: Integers
    held: Integers


def decide(
    random: np.random.Generator,
    policy: CompiledPolicy,
    applicants: Applicants,
    *,
    states: tuple[str, ...],
    tiers: tuple[str, ...],
    limits: Integers,
) -> Month:
    """Decide a month's applications in the order in which they arrived.

    limits: how many accepts each channel's budget of the month has room for. What would be accepted beyond it is
    decided once more as settlement does, with its budget exhausted.
    """
    channels = len(states)
    decided = evaluate(batch_of(applicants, states, tiers), policy)
    outcomes, actions, amounts = decided.outcomes.copy(), decided.actions.copy(), applicants.amount.copy()
    over = np.flatnonzero(outcomes == _ACCEPT)
    over = over[_place_in_channel(applicants.channel[over]) >= limits[applicants.channel[over]]]
    if over.size:
        late = evaluate(
            batch_of(applicants.where(over), states, tiers, budget_available=np.zeros(over.size, np.bool_)), policy
        )
        outcomes[over], actions[over] = late.outcomes, late.actions
    offered = actions == _OFFER
    amounts[offered] = decided.offered[offered]
    chance = random.random(len(applicants))
    approved = outcomes == _ACCEPT
    approved |= (actions == _REVIEW) & (chance < REVIEWER_ACCEPTS)
    approved |= offered & (chance < OFFER_TAKEN)
    wanted = approved & (random.random(len(applicants)) < TAKE_UP)
    room = np.flatnonzero(wanted)
    room = room[_place_in_channel(applicants.channel[room]) < limits[applicants.channel[room]]]
    held: Flags = np.zeros(len(applicants), np.bool_)
    held[over] = True
    return Month(
        funded=room,
        amount=amounts[room],
        applied=_by_channel(applicants.channel, channels),
        accepted=_by_channel(applicants.channel[outcomes == _ACCEPT], channels),
        escalated=_by_channel(applicants.channel[outcomes == OUTCOMES.index(Outcome.ESCALATE)], channels),
        held=_by_channel(applicants.channel[held], channels),
    )


def _by_channel(channel: Integers, channels: int) -> Integers:
    return np.bincount(channel, minlength=channels).astype(np.int64)


def _place_in_channel(channel: Integers) -> Integers:
    """Which of its channel's rows each is, from 0."""
    order = np.argsort(channel, kind="stable")
    ordered = channel[order]
    starts = np.searchsorted(ordered, ordered)
    places = np.empty(channel.size, np.int64)
    places[order] = np.arange(channel.size) - starts
    return places
