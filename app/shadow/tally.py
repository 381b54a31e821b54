"""What a worker has counted of its challenger since it last told the database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from app.domain.canonical import Json

EXAMPLES = 5
_MOST_KEYS = 5_000
"""Past this many channels, tiers and outcomes in one hour, what is new is counted under the channel `other`."""
OTHER = "other"


@dataclass(slots=True)
class _Count:
    evaluations: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Hour:
    """The counts of one challenger in one hour."""

    challenger: int
    hour: datetime
    outcomes: dict[tuple[str, str, str, str], _Count] = field(default_factory=dict)
    reasons: dict[tuple[str, str, str], list[int]] = field(default_factory=dict)
    errors: int = 0
    dropped: int = 0

    def add(
        self,
        *,
        channel: str,
        tier: str,
        before: tuple[str, Sequence[str]],
        after: tuple[str, Sequence[str]],
        decision_id: str,
    ) -> None:
        """Count one evaluation: outcome and codes of reasons under the active policy, and under the challenger."""
        if len(self.outcomes) >= _MOST_KEYS and (channel, tier, before[0], after[0]) not in self.outcomes:
            channel = OTHER
        count = self.outcomes.setdefault((channel, tier, before[0], after[0]), _Count())
        count.evaluations += 1
        if len(count.examples) < EXAMPLES:
            count.examples.append(decision_id)
        if list(before[1]) == list(after[1]):
            return
        had, has = set(before[1]), set(after[1])
        for place, codes in enumerate((has - had, had - has)):
            for code in codes:
                if len(self.reasons) < _MOST_KEYS or (channel, tier, code) in self.reasons:
                    self.reasons.setdefault((channel, tier, code), [0, 0])[place] += 1

    def outcome_rows(self) -> list[Json]:
        """The outcomes as `gate.shadow_add` takes them."""
        return [
            {
                "channel": channel,
                "tier": tier,
                "before": before,
                "after": after,
                "evaluations": count.evaluations,
                "examples": [*count.examples],
            }
            for (channel, tier, before, after), count in self.outcomes.items()
        ]

    def reason_rows(self) -> list[Json]:
        """The reasons as `gate.shadow_add` takes them."""
        return [
            {"channel": channel, "tier": tier, "code": code, "gained": gained, "lost": lost}
            for (channel, tier, code), (gained, lost) in self.reasons.items()
        ]


class Tally:
    """Counts by challenger and hour; what is taken out is not counted twice."""

    def __init__(self) -> None:
        self._hours: dict[tuple[int, datetime], Hour] = {}

    def at(self, challenger: int, at: datetime) -> Hour:
        """The counts that a moment belongs to."""
        hour = at.replace(minute=0, second=0, microsecond=0)
        return self._hours.setdefault((challenger, hour), Hour(challenger, hour))

    def take(self) -> Iterator[Hour]:
        """Each hour's counts, which are then the caller's; those that are not taken stay."""
        while self._hours:
            yield self._hours.pop(next(iter(self._hours)))

    def give_back(self, hour: Hour) -> None:
        """Keep counts that could not be stored; where new ones have come, these are lost but for the errors."""
        held = self._hours.setdefault((hour.challenger, hour.hour), hour)
        if held is not hour:
            held.errors += hour.errors
            held.dropped += hour.dropped + sum(count.evaluations for count in hour.outcomes.values())
