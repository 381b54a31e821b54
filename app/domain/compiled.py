"""A policy in the form that decides: what `compiler` makes and screening reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from app.domain.errors import DomainError
from app.domain.fields import Field
from app.domain.policy import CeilingPolicy, PolicyDocument, Product, Tier
from app.domain.reasons import SYSTEM_CODES
from app.domain.requirements import CompiledRule, RuleTable


class UnknownTierError(DomainError):
    """A tier was named that the policy does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TierRules:
    """The rules that hold for one tier, by when their fields become known."""

    request: RuleTable
    ceiling: RuleTable
    settlement: tuple[CompiledRule, ...]
    settlement_codes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class CompiledPolicy:
    """A policy that decides. Immutable; `version` is 0 for one that is not published."""

    version: int
    document: PolicyDocument
    currency: str
    tiers: Mapping[str, Tier]
    strictest_tier: str
    """The tier of the highest rank: what holds where nothing better is known."""
    products: Mapping[str, Product]
    jurisdictions: frozenset[str] | None
    fields: Mapping[str, Field]
    attributes: Mapping[str, Field]
    """The declared attributes by their own name, as the payload carries them."""
    consent_required: bool
    rules_by_tier: Mapping[str, TierRules]
    counted_pct: Mapping[int, int | None]
    """The percentage of income that counts, by the position of its verification."""

    @property
    def ceiling(self) -> CeilingPolicy:
        """The caps that differ by tier."""
        return self.document.ceiling

    @cached_property
    def codes(self) -> tuple[str, ...]:
        """Every code that a reason may carry, for bounded metric labels."""
        return (*dict.fromkeys(rule.code for rule in self.document.rules), self.ceiling.code, *SYSTEM_CODES)

    def rules(self, tier: str) -> TierRules:
        """The rules of a tier.

        Raises:
            UnknownTierError: where the policy has no such tier; there is no stand-in for rules.
        """
        try:
            return self.rules_by_tier[tier]
        except KeyError:
            raise UnknownTierError(f"the policy has no tier {tier}") from None


def probation_tiers(policy: PolicyDocument, tiers: Mapping[str, Tier], assigned: str | None) -> tuple[str, str]:
    """Whose rules and whose ceiling hold for a channel on probation: an assignment can only make them stricter."""

    def stricter(tier: str) -> str:
        if assigned is None or assigned not in tiers or tier not in tiers:
            return tier
        return assigned if tiers[assigned].rank > tiers[tier].rank else tier

    return stricter(policy.probation.rules_tier), stricter(policy.probation.ceiling_tier)
