"""The report of a what-if: a plain document that the same question on the same rows gives byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from app.domain.canonical import Json, canonical_bytes, digest
from app.domain.compiled import CompiledPolicy
from app.whatif.economics import Economics
from app.whatif.tally import OUTCOME_NAMES, UNKNOWN, Flip, Tally

FORMAT: Final = "channel-gate what-if 1"
CASES_A_DAY: Final = 80
"""What a reviewer works off in a day (source: the design's capacity)."""

_ACCEPT: Final = 0
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """`document` is what the digest covers; `measured` is how this run went, and differs from run to run."""

    document: dict[str, Json]
    measured: dict[str, Json]

    @property
    def content(self) -> bytes:
        """The document's canonical bytes, as they are stored."""
        return canonical_bytes(self.document)

    @property
    def digest(self) -> bytes:
        """SHA-256 of the content: what an approval names."""
        return digest(self.content)

    def whole(self) -> dict[str, Json]:
        """Document, digest and measurements as one object."""
        return {"digest": self.digest.hex(), "report": self.document, "measured": self.measured}


def policy_reference(policy: CompiledPolicy) -> dict[str, Json]:
    """A policy by its name and the digest that the database knows its document by."""
    content = canonical_bytes(policy.document.document())
    return {"name": policy.document.name, "digest": digest(content).hex(), "version": policy.version or None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What was asked: a draft, what it is compared with (None: what was recorded), and what is assumed."""

    draft: CompiledPolicy
    baseline: CompiledPolicy | None
    economics: Economics
    reviewers: int | None


def make_document(
    question: Question,
    tally: Tally,
    source: Mapping[str, Json],
    *,
    checked: int,
    show_id: Callable[[bytes], str],
) -> dict[str, Json]:
    """The report on what was counted. `checked` rows were decided by the hot path as well, and alike."""
    baseline = question.baseline
    return {
        "format": FORMAT,
        "draft": policy_reference(question.draft),
        "baseline": {"recorded": True} if baseline is None else policy_reference(baseline),
        "currency": question.draft.currency,
        "source": dict(source),
        "decisions": sum(tally.decisions.values()),
        "without_recorded_outcome": sum(n for cell, n in tally.decisions.items() if cell.before == UNKNOWN),
        "checked_against_the_hot_path": checked,
        "totals": _totals(tally),
        "matrix": _matrix(tally),
        "flips": [_flip(pair, flip, show_id) for pair, flip in sorted(tally.flips.items())],
        "refused_because": dict(sorted(tally.refusals.items())),
        "reasons": _reasons(tally),
        "ceilings": dict(sorted(tally.ceilings.items())),
        "exposure": _exposure(tally),
        "expected_loss": _expected_loss(tally, question.economics),
        "repayment": _repayment(tally),
        "reviews": _reviews(tally, question.reviewers),
        "assumptions": list(_assumptions(question)),
    }


def _totals(tally: Tally) -> Json:
    decisions: dict[tuple[int, int], int] = {}
    amounts: dict[tuple[int, int], int] = {}
    for cell, count in tally.decisions.items():
        pair = (cell.before, cell.after)
        decisions[pair] = decisions.get(pair, 0) + count
        amounts[pair] = amounts.get(pair, 0) + tally.amounts[cell]
    return [
        {
            "before": OUTCOME_NAMES[pair[0]],
            "after": OUTCOME_NAMES[pair[1]],
            "decisions": count,
            "amount": amounts[pair],
        }
        for pair, count in sorted(decisions.items())
    ]


def _matrix(tally: Tally) -> Json:
    return [
        {
            "channel": cell.channel,
            "tier": cell.tier,
            "before": OUTCOME_NAMES[cell.before],
            "after": OUTCOME_NAMES[cell.after],
            "decisions": count,
            "amount": tally.amounts[cell],
        }
        for cell, count in sorted(tally.decisions.items())
    ]


def _flip(pair: tuple[int, int], flip: Flip, show_id: Callable[[bytes], str]) -> Json:
    return {
        "before": OUTCOME_NAMES[pair[0]],
        "after": OUTCOME_NAMES[pair[1]],
        "decisions": flip.decisions,
        "amount": flip.amount,
        "reasons_gained": dict(sorted(flip.gained.items())),
        "reasons_lost": dict(sorted(flip.lost.items())),
        "examples": [
            {
                "id": show_id(example.row_id),
                "channel": example.channel,
                "tier": example.tier,
                "amount": example.amount,
                "reasons_gained": list(example.gained),
                "reasons_lost": list(example.lost),
            }
            for example in flip.examples
        ],
    }


def _reasons(tally: Tally) -> Json:
    codes = sorted({*tally.reasons_before, *tally.reasons_after})
    return [{"code": code, "before": tally.reasons_before[code], "after": tally.reasons_after[code]} for code in codes]


def _exposure(tally: Tally) -> Json:
    """What is accepted as it was asked for; counter-offers beside it, since not everyone takes one."""
    accepted = [0, 0]
    amounts = [0, 0]
    for cell, count in tally.decisions.items():
        for side, outcome in enumerate((cell.before, cell.after)):
            if outcome == _ACCEPT:
                accepted[side] += count
                amounts[side] += tally.amounts[cell]
    return {
        "accepted": {"before": accepted[0], "after": accepted[1]},
        "accepted_amount": _sides(amounts),
        "counter_offers": {"before": tally.offers[0], "after": tally.offers[1]},
        "counter_offered_amount": _sides(tally.offered),
    }


def _sides(values: list[int]) -> Json:
    return {"before": values[0], "after": values[1], "delta": values[1] - values[0]}


def _expected_loss(tally: Tally, economics: Economics) -> Json:
    before, after = (economics.expected_loss(amounts) for amounts in tally.accepted_by_band)
    if before is None or after is None:
        return {"known": False, **_object(economics.document())}
    return {"known": True, **_object(_sides([before, after])), **_object(economics.document())}


def _object(value: Json) -> dict[str, Json]:
    assert isinstance(value, dict)
    return value


def _repayment(tally: Tally) -> Json:
    """Swap-in: what the draft would newly accept; swap-out: what it would no longer accept."""

    def summed(flips: list[Flip]) -> Json:
        known = sum(flip.repayment_known for flip in flips)
        return {
            "decisions": sum(flip.decisions for flip in flips),
            "amount": sum(flip.amount for flip in flips),
            "known": known,
            "repaid": sum(flip.repaid for flip in flips) if known else None,
        }

    return {
        "swap_in": summed([flip for (_, after), flip in tally.flips.items() if after == _ACCEPT]),
        "swap_out": summed([flip for (before, _), flip in tally.flips.items() if before == _ACCEPT]),
    }


def _reviews(tally: Tally, reviewers: int | None) -> Json:
    """Escalations that wait for a person, a day; counter-offers wait for the applicant and are not among them."""
    days = sorted(tally.reviews_by_day)
    capacity = None if reviewers is None else reviewers * CASES_A_DAY

    def side(position: int) -> Json:
        counts = [tally.reviews_by_day[day][position] for day in days]
        peak = max(counts, default=0)
        return {
            "total": sum(counts),
            "busiest_day": peak,
            "busiest_day_date": _day(days[counts.index(peak)]) if peak else None,
            "reviewers_for_the_busiest_day": -(-peak // CASES_A_DAY),
            "days_above_capacity": None if capacity is None else sum(count > capacity for count in counts),
        }

    return {
        "days": len(days),
        "cases_a_reviewer_a_day": CASES_A_DAY,
        "reviewers": reviewers,
        "before": None if tally.actions_unknown else side(0),
        "after": side(1),
    }


def _day(since_epoch: int) -> str:
    return (_EPOCH + timedelta(days=since_epoch)).isoformat()


def _assumptions(question: Question) -> list[Json]:
    """What a reader must know to read the figures rightly, in the order in which it matters."""
    said: list[Json] = [
        "Applicants ask for the same as before, whatever the draft would have told them.",
        "A channel keeps the state and the tier that it stood in when it was decided; where it had no tier of its own "
        "it keeps the default of that time.",
        "Every request is decided with what was known when it was decided: bureau data and facts are not asked again.",
    ]
    if question.economics.bands is None:
        said.append("No probabilities of default were given, so the expected loss is unknown.")
    else:
        said.append("Probabilities of default are those of the given bands, for what is newly accepted too.")
    said.append("What became of a loan is known only where the source says so; refused loans have no outcome at all.")
    return said
