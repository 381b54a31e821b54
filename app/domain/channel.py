"""Channels: who brought the application, whether they are served, and which tier they stand in at a moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, NewType

ChannelId = NewType("ChannelId", int)


class ChannelKind(StrEnum):
    """How a channel reaches people."""

    ONLINE = "online"
    OFFLINE = "offline"
    INTERMEDIARY = "intermediary"
    SOCIAL = "social"


class ChannelState(StrEnum):
    """The life of a channel; only probation and active channels are served."""

    PROPOSED = "proposed"
    PROBATION = "probation"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    EXITED = "exited"


ALLOWED_TRANSITIONS: Mapping[ChannelState, frozenset[ChannelState]] = {
    ChannelState.PROPOSED: frozenset({ChannelState.PROBATION, ChannelState.EXITED}),
    ChannelState.PROBATION: frozenset({ChannelState.ACTIVE, ChannelState.SUSPENDED, ChannelState.EXITED}),
    ChannelState.ACTIVE: frozenset({ChannelState.PROBATION, ChannelState.SUSPENDED, ChannelState.EXITED}),
    ChannelState.SUSPENDED: frozenset({ChannelState.PROBATION, ChannelState.ACTIVE, ChannelState.EXITED}),
    ChannelState.EXITED: frozenset(),
}

SERVED_STATES = frozenset({ChannelState.PROBATION, ChannelState.ACTIVE})


def may_move(current: ChannelState, target: ChannelState) -> bool:
    """Whether a channel in `current` may be moved to `target`. Exited is final."""
    return target in ALLOWED_TRANSITIONS[current]


@dataclass(frozen=True, slots=True, kw_only=True)
class TierAssignment:
    """A scope's tier over [valid_from, valid_to). `None` for product or jurisdiction means any; no end means open."""

    tier: str
    valid_from: datetime
    valid_to: datetime | None = None
    product: str | None = None
    jurisdiction: str | None = None

    def holds(self, product: str, jurisdiction: str | None, at: datetime) -> bool:
        """Whether this assignment covers the product and jurisdiction at that moment."""
        return (
            (self.product is None or self.product == product)
            and (self.jurisdiction is None or self.jurisdiction == jurisdiction)
            and self.valid_from <= at
            and (self.valid_to is None or at < self.valid_to)
        )

    @property
    def specificity(self) -> int:
        """The more specific scope wins; a product weighs more than a jurisdiction."""
        return 2 * (self.product is not None) + (self.jurisdiction is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """An acquisition channel as the gate sees it. Validity is [valid_from, valid_to)."""

    channel_id: ChannelId
    code: str
    kind: ChannelKind
    state: ChannelState
    valid_from: datetime
    valid_to: datetime | None = None
    assignments: tuple[TierAssignment, ...] = ()

    def listed(self, at: datetime) -> bool:
        """Whether the channel is on the named list at all: proposed or not yet valid ones are not."""
        return self.state is not ChannelState.PROPOSED and self.valid_from <= at

    def served(self, at: datetime) -> bool:
        """Whether applications from this channel may be accepted at that moment."""
        return self.state in SERVED_STATES and self.listed(at) and not self.expired(at)

    def expired(self, at: datetime) -> bool:
        """Whether the agreement with the channel has run out."""
        return self.valid_to is not None and at >= self.valid_to

    def tier(self, product: str, jurisdiction: str | None, at: datetime) -> str | None:
        """The tier assigned to the most specific scope that holds, or None where nothing is assigned."""
        best: TierAssignment | None = None
        for assignment in self.assignments:
            if assignment.holds(product, jurisdiction, at) and (
                best is None or assignment.specificity > best.specificity
            ):
                best = assignment
        return None if best is None else best.tier


class Standing(NamedTuple):
    """How a channel stood when an application was decided: enough, with the policy, to decide it again."""

    channel_id: ChannelId
    code: str
    state: ChannelState
    served: bool
    tier: str
    rules_tier: str
    ceiling_tier: str
