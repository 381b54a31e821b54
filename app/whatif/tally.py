"""Counts what a draft changes, batch by batch, in memory that does not grow with the number of rows.

The order of batches and their size change nothing but which rows are the examples: those that came first.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa

from app.domain.reasons import NextAction
from app.whatif.arrays import Codes, Flags, Index, Integers, sums
from app.whatif.columns import Refusal, flags, integers
from app.whatif.economics import Bands
from app.whatif.evaluation import ACTIONS, OUTCOMES, REFUSED, Evaluation

UNKNOWN: Final = REFUSED + 1
"""The outcome's code where nothing was recorded."""
OUTCOME_NAMES: Final = (*(outcome.value for outcome in OUTCOMES), "refused", "unknown")
MAX_EXAMPLES: Final = 10
"""How many rows a report names for each pair of outcomes."""

_ACCEPT: Final = 0
_DAY_US: Final = 86_400_000_000
_REVIEW = ACTIONS.index(NextAction.REVIEW)
_UNKNOWN_ACTION = len(ACTIONS)


class Answers(NamedTuple):
    """One side of a comparison, a cell a row; `reasons` has a row for each of `codes`."""

    outcomes: Codes
    actions: Codes
    offered: Integers
    codes: tuple[str, ...]
    reasons: Flags


class Places(NamedTuple):
    """The channel and the tier of each row, as positions among texts."""

    channels: Integers
    channel_texts: tuple[str, ...]
    tiers: Integers
    tier_texts: tuple[str, ...]


class Cell(NamedTuple):
    """One cell of the matrix."""

    channel: str
    tier: str
    before: int
    after: int


class Example(NamedTuple):
    """One row whose outcome differs. `row_id` is what its source calls it."""

    row_id: bytes
    channel: str
    tier: str
    amount: int
    gained: tuple[str, ...]
    lost: tuple[str, ...]


@dataclass(slots=True)
class Flip:
    """Rows that go from one outcome to another, why, and what is known of them. Amounts are in minor units."""

    decisions: int = 0
    amount: int = 0
    gained: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    examples: list[Example] = field(default_factory=list)
    repayment_known: int = 0
    repaid: int = 0


@dataclass(slots=True)
class Tally:
    """Everything that a report says about rows."""

    decisions: Counter[Cell] = field(default_factory=Counter)
    amounts: Counter[Cell] = field(default_factory=Counter)
    flips: dict[tuple[int, int], Flip] = field(default_factory=dict)
    reasons_before: Counter[str] = field(default_factory=Counter)
    reasons_after: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    reviews_by_day: dict[int, list[int]] = field(default_factory=dict)
    """By day since 1970 (UTC): reviews before and after."""
    offers: list[int] = field(default_factory=lambda: [0, 0])
    offered: list[int] = field(default_factory=lambda: [0, 0])
    """Counter-offers and their amounts, before and after."""
    ceilings: Counter[str] = field(default_factory=Counter)
    accepted_by_band: tuple[Counter[int], Counter[int]] = field(default_factory=lambda: (Counter(), Counter()))
    actions_unknown: int = 0

    def add(
        self, batch: pa.RecordBatch, before: Answers, after: Evaluation, ceilings_before: pa.Array | Integers
    ) -> None:
        """Count one batch. `ceilings_before` are recorded ones with nulls, or those of another policy."""
        amounts = integers(batch.column("amount"))[0]
        now = answers(after)
        places = _places(batch, after)
        groups, group_of, counts = np.unique(
            _cells(places, before.outcomes, now.outcomes), return_inverse=True, return_counts=True
        )
        totals = sums(group_of.astype(np.intp), amounts, groups.size)
        pairs = set()
        for group, count, amount in zip(groups.tolist(), counts.tolist(), totals, strict=True):
            cell = _cell(group, places)
            self.decisions[cell] += count
            self.amounts[cell] += amount
            pairs.add((cell.before, cell.after))
        for pair in sorted(pairs):
            if pair[0] not in {pair[1], UNKNOWN}:
                self._flip(pair, batch, (before, now), places)
        for counter, side in ((self.reasons_before, before), (self.reasons_after, now)):
            counter.update(_counted(side.codes, side.reasons.sum(axis=1)))
        for position, side in enumerate((before, now)):
            self.offers[position] += int((side.offered > 0).sum())
            self.offered[position] += sums(np.zeros(side.offered.size, np.intp), side.offered, 1)[0]
        names = tuple(refusal.name.lower() for refusal in Refusal)
        refused = np.bincount(after.refusals, minlength=len(names))
        self.refusals.update({name: int(n) for name, n in zip(names[1:], refused[1:], strict=True) if n})
        self._reviews(batch, before, now)
        self._ceilings(after, ceilings_before)

    def add_bands(self, bands: Bands, positions: Integers, amounts: Integers, before: Codes, after: Codes) -> None:
        """Count the amounts that are accepted in each band."""
        for counter, outcomes in zip(self.accepted_by_band, (before, after), strict=True):
            accepted = outcomes == _ACCEPT
            totals = sums(positions[accepted].astype(np.intp), amounts[accepted], len(bands.probabilities) + 1)
            counter.update({band: amount for band, amount in enumerate(totals) if amount})

    def _flip(
        self, pair: tuple[int, int], batch: pa.RecordBatch, sides: tuple[Answers, Answers], places: Places
    ) -> None:
        before, after = sides
        amounts = integers(batch.column("amount"))[0]
        rows: Index = np.flatnonzero((before.outcomes == pair[0]) & (after.outcomes == pair[1]))
        flip = self.flips.setdefault(pair, Flip())
        flip.decisions += rows.size
        flip.amount += sums(np.zeros(rows.size, np.intp), amounts[rows], 1)[0]
        repaid, known = flags(batch.column("repaid"))
        flip.repayment_known += int(known[rows].sum())
        flip.repaid += int((known & repaid)[rows].sum())
        gained = _only_in(after, before, rows)
        lost = _only_in(before, after, rows)
        flip.gained.update(_counted(after.codes, gained.sum(axis=1)))
        flip.lost.update(_counted(before.codes, lost.sum(axis=1)))
        for place, row in enumerate(rows[: MAX_EXAMPLES - len(flip.examples)].tolist()):
            flip.examples.append(
                Example(
                    row_id=batch.column("row_id")[row].as_py(),
                    channel=places.channel_texts[places.channels[row]],
                    tier=places.tier_texts[places.tiers[row]],
                    amount=int(amounts[row]),
                    gained=tuple(code for code, has in zip(after.codes, gained[:, place], strict=True) if has),
                    lost=tuple(code for code, has in zip(before.codes, lost[:, place], strict=True) if has),
                )
            )

    def _reviews(self, batch: pa.RecordBatch, before: Answers, after: Answers) -> None:
        days = integers(batch.column("decided_at"))[0] // _DAY_US
        self.actions_unknown += int((before.actions == _UNKNOWN_ACTION).sum())
        found, day_of = np.unique(days, return_inverse=True)
        counts = [
            np.bincount(day_of, weights=side.actions == _REVIEW, minlength=found.size).astype(np.int64).tolist()
            for side in (before, after)
        ]
        for day, one, other in zip(found.tolist(), *counts, strict=True):
            both = self.reviews_by_day.setdefault(day, [0, 0])
            both[0] += one
            both[1] += other

    def _ceilings(self, after: Evaluation, ceilings_before: pa.Array | Integers) -> None:
        before, known = integers(pa.array(ceilings_before))
        comparable = known & (after.outcomes < REFUSED)
        change = np.sign(after.ceilings - before)[comparable]
        for name, sign in (("raised", 1), ("lowered", -1), ("unchanged", 0)):
            self.ceilings[name] += int((change == sign).sum())


def answers(evaluation: Evaluation) -> Answers:
    """What a policy comes to, as one side of a comparison."""
    actions = np.where(evaluation.outcomes < REFUSED, evaluation.actions, _UNKNOWN_ACTION).astype(np.uint8)
    return Answers(evaluation.outcomes, actions, evaluation.offered, evaluation.codes, evaluation.reasons)


def recorded_answers(batch: pa.RecordBatch) -> Answers:
    """What was decided once, as one side of a comparison."""
    outcomes, outcome_texts = _texts(batch, "outcome")
    actions, action_texts = _texts(batch, "next_action")
    sets, texts = _texts(batch, "reason_codes")
    given = [frozenset(text.split(",")) - {""} for text in texts]
    codes = tuple(sorted(frozenset[str]().union(*given)))
    positions = {code: position for position, code in enumerate(codes)}
    has = np.zeros((len(codes), len(given) + 1), np.bool_)  # the last column is for where nothing is recorded
    for column, each in enumerate(given):
        has[[positions[code] for code in each], column] = True
    return Answers(
        outcomes=_positions(outcome_texts, OUTCOME_NAMES[:REFUSED], UNKNOWN)[outcomes],
        actions=_positions(action_texts, tuple(action.value for action in ACTIONS), _UNKNOWN_ACTION)[actions],
        offered=integers(batch.column("offered_amount"))[0],
        codes=codes,
        reasons=has[:, sets],
    )


def _positions(texts: tuple[str, ...], among: tuple[str, ...], otherwise: int) -> Codes:
    """The code of each text; the last cell is for where there is none."""
    return np.array([among.index(text) if text in among else otherwise for text in texts] + [otherwise], np.uint8)


def _texts(batch: pa.RecordBatch, name: str) -> tuple[Integers, tuple[str, ...]]:
    codes, known = integers(batch.column(name).indices)
    return np.where(known, codes, -1), tuple(batch.column(name).dictionary.to_pylist())


def _places(batch: pa.RecordBatch, after: Evaluation) -> Places:
    """The tier is the recorded one, or where there is none the one that the draft puts the channel in."""
    channels, channel_texts = _texts(batch, "channel_code")
    recorded, texts = _texts(batch, "tier")
    tiers = np.where(recorded >= 0, recorded, after.tiers + len(texts))
    return Places(channels, channel_texts, tiers, (*texts, *after.tier_codes))


def _cells(places: Places, before: Codes, after: Codes) -> Integers:
    return ((places.channels * len(places.tier_texts) + places.tiers) * 8 + before) * 8 + after


def _cell(key: int, places: Places) -> Cell:
    place, outcomes = divmod(key, 64)
    channel, tier = divmod(place, len(places.tier_texts))
    return Cell(places.channel_texts[channel], places.tier_texts[tier], *divmod(outcomes, 8))


def _only_in(one: Answers, other: Answers, rows: Index) -> Flags:
    """For each code of `one` which rows have it there and not in the other."""
    found: Flags = one.reasons[:, rows].copy()
    for position, code in enumerate(one.codes):
        if code in other.codes:
            found[position] &= ~other.reasons[other.codes.index(code), rows]
    return found


def _counted(codes: tuple[str, ...], counts: Integers) -> dict[str, int]:
    return {code: int(count) for code, count in zip(codes, counts, strict=True) if count}
