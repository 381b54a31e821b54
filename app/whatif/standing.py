"""How a channel that stood somewhere when it was decided would stand under another policy."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from app.domain.application import LoanApplication
from app.domain.channel import Channel, ChannelId, ChannelKind, ChannelState, Standing, TierAssignment
from app.domain.compiled import CompiledPolicy, probation_tiers
from app.domain.screening import stand

_AT = datetime(2000, 1, 1, tzinfo=UTC)
_SINCE = _AT - timedelta(days=1)


def assigned_tier(policy: CompiledPolicy, standing: Standing) -> str | None:
    """The tier that a channel had of its own when it stood so under `policy`, as far as the record tells.

    Only probation hides it: there a tier that made nothing stricter left no trace, and None is as good. Elsewhere a
    channel without a tier had the policy's default, which counts as its own from then on.
    """
    if standing.state is not ChannelState.PROBATION or standing.tier not in policy.tiers:
        return standing.tier
    rules_tier, ceiling_tier = probation_tiers(policy.document, policy.tiers, None)
    if standing.rules_tier != rules_tier:
        return standing.rules_tier
    return standing.ceiling_tier if standing.ceiling_tier != ceiling_tier else None


def standing_under(
    policy: CompiledPolicy, *, channel_code: str, state: ChannelState, served: bool, assigned: str | None
) -> Standing:
    """The standing that the hot path gives a channel in this state with this tier of its own, at any moment."""
    channel = Channel(
        channel_id=ChannelId(0),
        code=channel_code,
        kind=ChannelKind.ONLINE,
        state=state,
        valid_from=_SINCE,
        assignments=() if assigned is None else (TierAssignment(tier=assigned, valid_from=_SINCE),),
    )
    return stand(policy, channel, _ANY, _AT)._replace(served=served)


_ANY = LoanApplication(
    application_id="",
    revision=1,
    channel_code="",
    product="",
    jurisdiction=None,
    amount=1,
    currency="",
    term_months=1,
    applicant_ref=None,
    completed_at=None,
    consent_at=None,
    bureau_pulled_at=None,
    values={},
    unknown={},
)
"""Of an application, a standing depends on product and jurisdiction alone, and a tier for all of them on neither."""
