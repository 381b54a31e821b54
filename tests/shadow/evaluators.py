"""Evaluators that misbehave, in the place of `app.shadow.evaluator`: `python -m tests.shadow.evaluators <name>` serves
the gate with one of them. No setting of the product leads here.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from typing import Any, NoReturn

from app.api.factory import GateApp
from app.domain.compiled import CompiledPolicy
from app.server.worker import BACKLOG, run_worker
from app.settings import read_settings
from app.shadow.evaluator import serve
from app.shadow.runner import ShadowRunner


def raises(connection: socket.socket) -> None:
    """Fails for every application."""

    def evaluate(_policy: CompiledPolicy, _sample: list[Any]) -> NoReturn:
        raise RuntimeError("the challenger is broken")

    serve(connection, evaluate)


def exits(connection: socket.socket) -> None:
    """Takes its process with it."""
    serve(connection, lambda _policy, _sample: os._exit(3))


def sleeps(connection: socket.socket) -> None:
    """Never answers, and uses no processor."""

    def evaluate(_policy: CompiledPolicy, _sample: list[Any]) -> NoReturn:
        while True:
            time.sleep(3600)

    serve(connection, evaluate)


def spins(connection: socket.socket) -> None:
    """Never answers, and uses all the processor that it gets."""

    def evaluate(_policy: CompiledPolicy, _sample: list[Any]) -> NoReturn:
        while True:
            pass

    serve(connection, evaluate)


def eats(connection: socket.socket) -> None:
    """Asks for more memory than there is."""

    def evaluate(_policy: CompiledPolicy, _sample: list[Any]) -> NoReturn:
        raise AssertionError(len(bytearray(64 * 1024**3)))

    serve(connection, evaluate)


def main(name: str) -> int:
    """The service, but for what its challenger's process runs."""
    settings = read_settings()
    app = GateApp(settings)
    app.gate.shadow = ShadowRunner(
        app.gate.keeper, app.gate.read_engine, target=f"{__spec__.name}:{name}", patience_seconds=3.0
    )
    listener = socket.create_server((settings.host, settings.port), backlog=BACKLOG)
    return run_worker(settings, listener, application=app)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
