"""A what-if that was asked for over HTTP, from its row to its report: `python -m app.whatif <run id>`.

A service starts the process and holds its standard input: when that closes, the run is cancelled. It says twice a
second how far it is and hears then whether it should stop. It works as the governance
login, as `channel-gate whatif` does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from uuid_utils import uuid7

from app.db.changes import Change, RefusedChangeError
from app.db.engine import make_engine
from app.domain.compiled import CompiledPolicy
from app.domain.compiler import compile_policy
from app.domain.errors import PolicyError
from app.governance.drafts import Draft, find_draft
from app.governance.reports import put_report
from app.governance.whatif_runs import RunState, WhatIfRun, end_run, run_by_id, tell_progress
from app.policies.store import find_policy
from app.whatif.economics import Economics, EconomicsError, read_bands
from app.whatif.extract import ExtractError, LogExtract, Selection
from app.whatif.per_row import DisagreementError
from app.whatif.reconcile import LogChangedError, reconcile
from app.whatif.report import Report
from app.whatif.run import CancelledError, what_if

_HEARTBEAT_SECONDS: Final = 0.5


class QuestionError(Exception):
    """What was asked for cannot be answered; says why."""


_TOLD = (QuestionError, ExtractError, LogChangedError, DisagreementError, RefusedChangeError)
"""What may go wrong in words for the person who asked."""


@dataclass(slots=True)
class _Progress:
    """Written by the run, in whatever thread it is in; read by the heartbeat."""

    phase: str = "starting"
    done: int = 0
    total: int | None = None
    stop: threading.Event = field(default_factory=threading.Event)

    def begin(self, phase: str) -> None:
        self.phase, self.done, self.total = phase, 0, None

    def hear(self, done: int, total: int | None) -> None:
        self.done, self.total = done, total


async def run_job(url: str, directory: Path, run_id: int) -> RunState:
    """Answer the question of a run, and write down how it ended. `url` is the governance login's."""
    engine = make_engine(url, pool_size=3, statement_timeout_seconds=0)
    progress = _Progress()
    _stop_with_the_service(progress)
    try:
        async with engine.connect() as connection:
            run = await run_by_id(connection, run_id)
        if run is None or run.state is not RunState.RUNNING:
            return RunState.FAILED
        async with _heartbeat(engine, run_id, progress):
            try:
                return await _answer(engine, directory, run, progress)
            except CancelledError:
                return await _ended(engine, run_id, RunState.CANCELLED)
            except _TOLD as error:
                return await _ended(engine, run_id, RunState.FAILED, failure=str(error))
            except Exception as error:
                await _ended(engine, run_id, RunState.FAILED, failure=type(error).__name__)
                raise
    finally:
        await engine.dispose()


async def _answer(engine: AsyncEngine, directory: Path, run: WhatIfRun, progress: _Progress) -> RunState:
    question = run.question
    async with engine.connect() as connection:
        draft = await find_draft(connection, run.draft_id)
        if draft is None or draft.digest != run.document_digest:
            raise QuestionError("the draft has another document by now")
        compiled = _compiled(draft)
        baseline = await _baseline(connection, question.get("baseline"))
    economics = _economics(question)
    progress.begin("reading")
    source = await _source(engine, directory, question, progress)
    progress.begin("deciding")
    report: Report = await asyncio.to_thread(
        what_if,
        source,
        compiled,
        baseline=baseline,
        economics=economics,
        reviewers=question.get("reviewers"),
        on_progress=progress.hear,
        is_cancelled=progress.stop.is_set,
    )
    change = Change(actor=run.created_by, request_id=str(uuid7()))
    async with engine.begin() as connection:
        # Holds the row: who cancels from now on finds the run at its end.
        if not await tell_progress(connection, run.run_id, progress.phase, progress.done, progress.total):
            raise CancelledError
        stored = await put_report(connection, draft, report.content.decode(), change=change)
        await end_run(connection, run.run_id, RunState.DONE, report_id=stored.report_id, measured=report.measured)
    return RunState.DONE


def _compiled(draft: Draft) -> CompiledPolicy:
    try:
        return compile_policy(draft.document())
    except PolicyError as error:
        raise QuestionError(f"the draft does not compile: {error.problems[0]}") from None


async def _baseline(connection: AsyncConnection, version: int | None) -> CompiledPolicy | None:
    if version is None:
        return None
    stored = await find_policy(connection, version)
    if stored is None:
        raise QuestionError("there is no such version to compare with")
    try:
        return compile_policy(stored.document(), version=stored.version)
    except PolicyError as error:
        raise QuestionError(f"the version to compare with does not compile: {error.problems[0]}") from None


def _economics(question: Mapping[str, Any]) -> Economics:
    assumed = {name: question[name] for name in ("lgd_pct", "ead_pct") if name in question}
    if question.get("pd") is None:
        return Economics(**assumed)
    try:
        return Economics(**assumed, bands=read_bands(question["pd"]))
    except EconomicsError as error:
        raise QuestionError(f"pd: {error}") from None


async def _source(engine: AsyncEngine, directory: Path, question: Mapping[str, Any], progress: _Progress) -> LogExtract:
    channels = question.get("channels")
    selection = Selection(
        decided_from=_instant(question.get("from")),
        decided_to=_instant(question.get("to")),
        channels=None if channels is None else frozenset(channels),
    )
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="REPEATABLE READ")
        return await reconcile(
            connection, directory, selection, on_progress=progress.hear, is_cancelled=progress.stop.is_set
        )


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


async def _ended(engine: AsyncEngine, run_id: int, state: RunState, *, failure: str | None = None) -> RunState:
    async with engine.begin() as connection:
        await end_run(connection, run_id, state, failure=failure)
    return state


@asynccontextmanager
async def _heartbeat(engine: AsyncEngine, run_id: int, progress: _Progress) -> AsyncIterator[None]:
    """Tell how far the run is, and stop it where somebody asked for that."""

    async def beat() -> None:
        while True:
            with contextlib.suppress(OSError, TimeoutError):
                async with engine.begin() as connection:
                    told = (run_id, progress.phase, progress.done, progress.total)
                    if not await tell_progress(connection, *told):
                        progress.stop.set()
            await asyncio.sleep(_HEARTBEAT_SECONDS)

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await beating


def _stop_with_the_service(progress: _Progress) -> None:
    def wait() -> None:
        with contextlib.suppress(OSError):
            os.read(sys.stdin.fileno(), 1)
        progress.stop.set()

    threading.Thread(target=wait, daemon=True).start()
