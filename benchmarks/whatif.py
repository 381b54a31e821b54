"""`python -m benchmarks.whatif`: a draft over a million stored decisions, in columns and row by row.

Prints what one takes and the other, from one run on one set of rows. Nothing here passes or fails.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from app.db.changes import Change
from app.db.engine import make_engine
from app.domain.compiled import CompiledPolicy
from app.domain.compiler import compile_policy
from app.domain.policy_changes import with_threshold
from app.domain.record import replay
from app.journal.digest import digest_days
from app.journal.reader import DecisionFilter, stream_decisions
from app.policies.defaults import default_policy
from app.whatif.columns import needed_columns
from app.whatif.evaluation import evaluate
from app.whatif.extract import LogExtract, Selection
from app.whatif.per_row import stored_rows
from app.whatif.reconcile import reconcile
from app.whatif.run import what_if
from benchmarks.ground import Cores, Ground, ground
from benchmarks.whatif_rows import fill_log, synthetic_extract

_ROW_BY_ROW = 20_000
"""Rows of the loop: enough for a steady figure."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.whatif", description=__doc__)
    parser.add_argument("--decisions", type=int, default=1_000_000, help="in the synthetic extract")
    parser.add_argument("--days", type=int, default=30, help="that they are spread over")
    parser.add_argument("--stored", type=int, default=50_000, help="in a real log; 0: leave the database out")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    console = Console(width=110, highlight=False)
    console.print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="channel-gate-whatif-") as temporary:
        directory = Path(temporary) / "extract"
        files = synthetic_extract(directory, active(), decisions=arguments.decisions, days=arguments.days)
        size = sum((directory / each.name).stat().st_size for each in files)
        console.print(f"{arguments.decisions:,} synthetic decisions in {arguments.days} files, {size / 1e6:,.0f} MB")
        source = LogExtract(directory, files, Selection())
        _print_evaluation(source, console)
        table = Table("end to end", "s", "of it CPU s", "peak RSS, MB")
        for _ in range(arguments.rounds):
            seconds, busy, peak = _in_process(_end_to_end, source)
            table.add_row("what-if: files to report", f"{seconds:.2f}", f"{busy:.2f}", f"{peak:,.0f}")
        console.print(table)
    if arguments.stored:
        with ground(Cores.available()) as place:
            asyncio.run(_real_log(place, arguments.stored, console))


def active() -> CompiledPolicy:
    """The policy that decided."""
    return compile_policy(default_policy(), version=1)


def draft() -> CompiledPolicy:
    """A stricter one."""
    return compile_policy(with_threshold(active().document, "BU03", "general", 660).document())


def _print_evaluation(source: LogExtract, console: Console) -> None:
    """The evaluation alone, both ways, on rows that are in memory."""
    policy = draft()
    batches = []
    for batch in source.batches(needed_columns((policy,))):
        batches.append(batch)
        if len(batches) == 4:
            break
    rows = sum(batch.num_rows for batch in batches)
    evaluate(batches[0], policy)
    began = time.process_time()
    for batch in batches:
        evaluate(batch, policy)
    columns_us = (time.process_time() - began) / rows * 1e6
    loop = stored_rows(policy, batches[0], np.arange(0, batches[0].num_rows, 4)[:_ROW_BY_ROW])
    began = time.process_time()
    for row in loop:
        row.decide(policy)
    loop_us = (time.process_time() - began) / len(loop) * 1e6
    table = Table("deciding under the draft, CPU time", "us a decision", "s a million", "ratio")
    table.add_row("row by row: read, screen, settle", f"{loop_us:.2f}", f"{loop_us:.1f}", "1")
    table.add_row("columns", f"{columns_us:.3f}", f"{columns_us:.2f}", f"{loop_us / columns_us:.0f} x")
    console.print(table)


def _end_to_end(source: LogExtract) -> None:
    what_if(source, draft())


def _in_process(work: Callable[[Any], None], argument: Any) -> tuple[float, float, float]:
    """Seconds of the work, those of all its threads, and the peak memory of a process that does nothing else, in MB."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_measured, (work, argument))


def _measured(work: Callable[[Any], None], argument: Any) -> tuple[float, float, float]:
    began, busy = time.perf_counter(), time.process_time()
    work(argument)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return time.perf_counter() - began, time.process_time() - busy, peak


async def _real_log(place: Ground, decisions: int, console: Console) -> None:
    """The same against a database: what building the extract costs, and what the row by row loop over the log does."""
    await fill_log(place.superuser_url, active(), decisions=decisions, days=20)
    engine = make_engine(place.urls.governance, pool_size=1, statement_timeout_seconds=0)
    table = Table(f"{decisions:,} decisions in a database", "s", "s a million")

    def add(name: str, seconds: float, rows: int = decisions) -> None:
        table.add_row(name, f"{seconds:.2f}", f"{seconds / rows * 1e6:.1f}")

    directory = place.directory / "extract"
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        yesterday = (datetime.now(UTC) - timedelta(days=1)).date()
        began = time.perf_counter()
        async for _ in digest_days(connection, Change(actor="bench", request_id="r"), until=yesterday):
            pass
        add("digest its days (the nightly job, for comparison)", time.perf_counter() - began)
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="REPEATABLE READ")
        began = time.perf_counter()
        await reconcile(connection, directory, Selection())
        add("build the extract", time.perf_counter() - began)
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="REPEATABLE READ")
        began = time.perf_counter()
        source = await reconcile(connection, directory, Selection())
        seconds = time.perf_counter() - began
        add("see that it agrees with the log", seconds)
        began = time.perf_counter()
        report = what_if(source, draft())
        add("what-if: files to report", time.perf_counter() - began)
        changed = sum(flip["decisions"] for flip in report.document["flips"])  # type: ignore[index, union-attr, misc, call-overload]
        began = time.perf_counter()
        rows = await _loop_over_log(connection, min(decisions, _ROW_BY_ROW))
        add("row by row over the log: read and replay", time.perf_counter() - began, rows)
        began = time.perf_counter()
        await connection.execute(text(_JSON_COLUMNS))
        add("the same fields by SQL from the stored JSON, without sending them", time.perf_counter() - began)
    await engine.dispose()
    console.print(table)
    console.print(f"{changed:,} decisions change under the draft")


async def _loop_over_log(connection: Any, limit: int) -> int:
    from app.screening.replay import _document, _request

    policy = active()
    rows = 0
    async for batch in stream_decisions(connection, DecisionFilter(), limit=limit):
        for stored in batch:
            assert stored.input is not None
            assert stored.record is not None
            replay(policy, _request(stored.input), _document(stored.record))
            rows += 1
    return rows


_JSON_COLUMNS = """
    SELECT count(*), sum((j #>> '{amount}')::bigint), sum((j #>> '{term_months}')::int), count(j #>> '{jurisdiction}'),
           count(j #>> '{all_in_apr_pct}'), count(j #>> '{applicant,applicant_ref}'),
           count((j #>> '{applicant,birth_date}')::date), sum((j #>> '{applicant,employment_months}')::int),
           sum((j #>> '{applicant,residence_months}')::int), sum((j #>> '{applicant,monthly_income}')::bigint),
           count(j #>> '{applicant,income_verification}'), sum((j #>> '{applicant,monthly_obligations}')::bigint),
           count((j #>> '{bureau,hit}')::boolean), sum((j #>> '{bureau,score}')::int),
           sum((j #>> '{bureau,history_months}')::int), sum((j #>> '{bureau,max_dpd_12m}')::int),
           sum((j #>> '{bureau,current_dpd_own}')::int), sum((j #>> '{bureau,inquiries_3m}')::int),
           sum((j #>> '{bureau,active_lenders}')::int), sum((j #>> '{bureau,bankruptcy_months_ago}')::int),
           count((j #>> '{bureau,open_judgment}')::boolean), sum((j #>> '{device,ids_on_device_24h}')::int),
           count((j #>> '{bureau,pulled_at}')::timestamptz), count(j #>> '{unknown}'), count(r #>> '{standing}')
    FROM (SELECT convert_from(input, 'UTF8')::jsonb AS j, convert_from(record, 'UTF8')::jsonb AS r
          FROM gate.decisions OFFSET 0) d
"""


if __name__ == "__main__":
    main()
