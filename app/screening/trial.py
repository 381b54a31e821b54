"""Decides one application against a policy without a server, a database or a channel of its own: nothing is stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from app.domain.application import LoanApplication
from app.domain.canonical import Json
from app.domain.channel import Channel, ChannelId, ChannelKind, ChannelState, TierAssignment
from app.domain.compiled import CompiledPolicy, UnknownTierError
from app.domain.reasons import Outcome
from app.domain.record import record_document, response_document
from app.domain.screening import outcomes_by_tier, screen, stand, tier_decisive
from app.domain.settlement import Decision, settle

NO_DECISION_ID = UUID(int=0)
"""What stands for the id of a decision that the log does not hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A decision as it would be, and what it would be under each tier, in order of rank."""

    decision: Decision
    outcomes_by_tier: Mapping[str, Outcome]

    @property
    def tier_decisive(self) -> bool:
        """Whether another tier would lead to another outcome."""
        return tier_decisive(self.decision.screening.outcome, self.outcomes_by_tier)

    def document(self) -> dict[str, Json]:
        """The answer, the whole record, and the outcome under each tier."""
        return {
            "response": response_document(self.decision, decision_id=str(NO_DECISION_ID)),
            "record": record_document(self.decision, decision_id=str(NO_DECISION_ID)),
            "outcomes_by_tier": {tier: outcome.value for tier, outcome in self.outcomes_by_tier.items()},
            "tier_decisive": self.tier_decisive,
        }


def try_application(
    policy: CompiledPolicy,
    application: LoanApplication,
    at: datetime,
    *,
    state: ChannelState = ChannelState.ACTIVE,
    tier: str | None = None,
) -> Trial:
    """Decide as if the application's channel were in `state` and had `tier` (None: the policy's default) at `at`.

    Raises:
        UnknownTierError: where the policy has no such tier.
        UnknownChannelError: where the state is one in which a channel is not on the named list.
    """
    if tier is not None and tier not in policy.tiers:
        raise UnknownTierError(f"the policy has no tier {tier}")
    since = at.astimezone(UTC) - timedelta(days=1)
    channel = Channel(
        channel_id=ChannelId(0),
        code=application.channel_code,
        kind=ChannelKind.ONLINE,
        state=state,
        valid_from=since,
        assignments=() if tier is None else (TierAssignment(tier=tier, valid_from=since),),
    )
    standing = stand(policy, channel, application, at)
    return Trial(
        decision=settle(screen(policy, standing, application, at)),
        outcomes_by_tier=outcomes_by_tier(policy, standing, application, at),
    )
