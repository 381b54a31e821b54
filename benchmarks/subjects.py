"""What the gate is measured beside, each served as the gate is: `python -m benchmarks.subjects <application>`.

`without_log` is the gate with a journal that answers at once and stores nothing. It exists in this file alone, which
is no part of the installed product, and no setting leads to it. `plain` is a FastAPI endpoint as a tutorial writes it:
the fields and bounds of the gate's schema as models (FastAPI hands them parsed JSON, which strict ones refuse).
"""

import asyncio
import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, get_args

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, create_model
from typing_extensions import get_type_hints, is_typeddict

from app.api.factory import GateApp
from app.api.schemas.decision_examples import ACCEPTED
from app.api.schemas.decisions import DecisionDocument
from app.journal.entry import FlushResult, FlushStatus, JournalEntry
from app.journal.writer import JournalWriter
from app.screening.decide import DecisionDesk
from app.screening.payload import ApplicationPayload
from app.server.worker import BACKLOG, run_worker
from app.settings import read_settings


class ForgetfulWriter(JournalWriter):
    """Says that every decision is written, and writes none."""

    async def start(self) -> None:
        """Connects to nothing."""

    async def stop(self) -> None:
        """Has nothing to finish."""

    @property
    def available(self) -> bool:
        return True

    def append(
        self, entry: JournalEntry, waiter: asyncio.Future[FlushResult] | None = None, *, first: bool = False
    ) -> asyncio.Future[FlushResult]:
        """The answer that a durable log would give."""
        answer = waiter or asyncio.get_running_loop().create_future()
        answer.set_result(FlushResult(FlushStatus.WRITTEN, entry.response))
        return answer


def without_log() -> GateApp:
    """The whole gate but for the log: routing, callers, rate, schema, rules, metrics."""
    settings = read_settings()
    app = GateApp(settings)
    gate = app.gate

    async def nowhere(_timeout_seconds: float) -> Any:
        raise ConnectionError

    gate.writer = ForgetfulWriter(
        nowhere, queue_limit=1, batch_limit=1, deadline_seconds=1.0, partitions_ahead_months=1
    )
    gate.desk = DecisionDesk(
        keeper=gate.keeper,
        writer=gate.writer,
        read_engine=gate.read_engine,
        deadline_seconds=settings.flush_deadline_seconds,
    )
    return app


def _model(form: Any) -> type[BaseModel]:
    """A model with the fields and bounds of a typed dictionary, and of those in it."""
    fields: dict[str, Any] = {}
    for name, kind in get_type_hints(form, include_extras=True).items():
        nested = [option for option in get_args(kind) if is_typeddict(option)]
        wanted = _model(nested[0]) | None if nested else kind
        fields[name] = (wanted, ... if name in form.__required_keys__ else None)
    model: type[BaseModel] = create_model(form.__name__, __config__=ConfigDict(extra="forbid"), **fields)
    return model


def plain(*, in_thread: bool = False) -> FastAPI:
    """The same schemas and a constant answer: no caller is checked, no rule evaluated, nothing counted or stored.

    `in_thread` makes the endpoint a plain `def`, which FastAPI runs in a thread: what its documentation advises where
    in doubt, and what a blocking database session needs.
    """
    app = FastAPI()
    application_model = _model(ApplicationPayload)

    async def decide(application: application_model) -> dict[str, Any]:  # type: ignore[valid-type]
        return ACCEPTED

    def decide_in_thread(application: application_model) -> dict[str, Any]:  # type: ignore[valid-type]
        return ACCEPTED

    app.post("/v1/decisions", response_model=DecisionDocument)(decide_in_thread if in_thread else decide)

    @app.get("/readyz")
    async def readyz() -> dict[str, bool]:
        return {"ready": True}

    return app


SUBJECTS: dict[str, Callable[[], Any]] = {
    "without-log": without_log,
    "plain": plain,
    "plain-in-thread": partial(plain, in_thread=True),
}


def main(name: str) -> int:
    """Serve one of the applications on PORT with the gate's own server settings."""
    settings = read_settings()
    listener = socket.create_server((settings.host, settings.port), backlog=BACKLOG)
    return run_worker(settings, listener, application=SUBJECTS[name]())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
