"""A what-if from end to end: rows from a source, a draft, and out comes a report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Protocol

import numpy as np
import pyarrow as pa

from app.domain.canonical import Json
from app.domain.compiled import CompiledPolicy
from app.whatif.columns import PolicyColumns, Refusal, integers, needed_columns
from app.whatif.economics import Economics
from app.whatif.evaluation import Evaluation, evaluate
from app.whatif.per_row import check_rows
from app.whatif.report import Question, Report, make_document
from app.whatif.tally import Answers, Tally, answers, recorded_answers

BATCH_ROWS: Final = 65_536
"""Rows that are decided at once, and twice as many at most: what bounds the memory of a run."""
CHECKED_ROWS: Final = 32
"""Rows of each batch that the hot path decides as well."""


class CancelledError(Exception):
    """The run was told to stop; there is no report."""


class Source(Protocol):
    """Where rows come from."""

    @property
    def rows(self) -> int | None:
        """How many there are, for progress; None where nobody knows yet."""

    def batches(self, columns: frozenset[str]) -> Iterator[pa.RecordBatch]:
        """The rows in their order, less than twice `BATCH_ROWS` at a time, with the context's columns and these.

        Only rows that hold a request: what there is no request of the source counts for itself.
        """

    def document(self) -> Mapping[str, Json]:
        """What was read, once all of it has been: enough to know the same rows again."""

    def show_id(self, row_id: bytes) -> str:
        """What people call a row."""


def what_if(
    source: Source,
    draft: CompiledPolicy,
    *,
    baseline: CompiledPolicy | None = None,
    economics: Economics | None = None,
    reviewers: int | None = None,
    on_progress: Callable[[int, int | None], None] = lambda _done, _total: None,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> Report:
    """Decide every row again under `draft` and compare: with what was recorded, or with what `baseline` comes to.

    Works in the calling thread and holds one batch at a time. `on_progress` hears the rows done and their number.

    Raises:
        CancelledError: where `is_cancelled` said so, at the next batch.
        DisagreementError: where the hot path decides a checked row otherwise.
    """
    question = Question(draft=draft, baseline=baseline, economics=economics or Economics(), reviewers=reviewers)
    bands = question.economics.bands
    policies = (draft,) if baseline is None else (draft, baseline)
    columns = needed_columns(policies) | (frozenset() if bands is None else {bands.field})
    tally = Tally()
    samples: list[int] = []
    checked = done = 0
    started = time.perf_counter()
    evaluating = 0.0
    for batch in source.batches(columns):
        if is_cancelled():
            raise CancelledError
        began = time.perf_counter()
        after = evaluate(batch, draft)
        evaluating += time.perf_counter() - began
        checked += _check(draft, batch, after, samples)
        before, ceilings = _before(batch, baseline)
        tally.add(batch, before, after, ceilings)
        if bands is not None:
            positions = bands.positions(PolicyColumns(batch, draft).column(bands.field))
            amounts = integers(batch.column("amount"))[0]
            tally.add_bands(bands, positions, amounts, before.outcomes, after.outcomes)
        done += batch.num_rows
        on_progress(done, source.rows)
    document = make_document(question, tally, source.document(), checked=checked, show_id=source.show_id)
    return Report(document=document, measured=_measured(done, time.perf_counter() - started, evaluating, samples))


def _before(batch: pa.RecordBatch, baseline: CompiledPolicy | None) -> tuple[Answers, pa.Array]:
    if baseline is None:
        return recorded_answers(batch), batch.column("ceiling_amount")
    evaluation = evaluate(batch, baseline)
    decided = evaluation.refusals == Refusal.NONE
    return answers(evaluation), pa.array(evaluation.ceilings, mask=~decided)


def _check(draft: CompiledPolicy, batch: pa.RecordBatch, after: Evaluation, samples: list[int]) -> int:
    """Hold rows spread over the batch against the hot path, and keep the nanoseconds that each took there."""
    rows = np.flatnonzero(after.refusals == Refusal.NONE)
    chosen = rows[:: max(1, -(-rows.size // CHECKED_ROWS))]
    samples += check_rows(draft, batch, chosen, after)
    return int(chosen.size)


def _measured(rows: int, seconds: float, evaluating: float, samples: list[int]) -> dict[str, Json]:
    ordered = sorted(samples)

    def at(share: float) -> int | None:
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] // 1_000 if ordered else None

    return {
        "rows": rows,
        "milliseconds": round(seconds * 1_000),
        "milliseconds_evaluating_the_draft": round(evaluating * 1_000),
        "hot_path_microseconds": {"rows": len(ordered), "p50": at(0.5), "p95": at(0.95), "largest": at(1)},
    }
