"""Starting the service: checks first, then the port, then one worker in this process or several under a parent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile

from app.db.schema import require_current
from app.journal.call import FLUSH_FUNCTION
from app.observability.exposition import MULTIPROCESS_VARIABLE, serve_metrics
from app.observability.logs import configure_logs
from app.server.supervisor import Supervisor
from app.server.worker import BACKLOG, run_worker
from app.settings import Settings


def run_service(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; the exit code of the process. The settings are in the environment, too.

    Raises:
        SettingsError: where a database URL is missing.
        SchemaError: where the database has no schema, an old one, or one that it cannot store a decision in.
        OSError, asyncpg.PostgresError: where the database is away or a port cannot be had.
    """
    settings.governance_url()
    asyncio.run(require_current(settings.serving_url(), functions=(FLUSH_FUNCTION,)))
    configure_logs(level=settings.log_level, log_format=settings.log_format)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(_listen(settings.host, settings.port))
        if settings.workers > 1:
            # Before anything counts: each worker keeps its figures in files here, and any of them can read them all.
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="channel-gate-metrics-"))
            os.environ[MULTIPROCESS_VARIABLE] = folder
        if settings.metrics_port is not None:
            stack.callback(serve_metrics(host=settings.host, port=settings.metrics_port))
        if settings.workers == 1:
            return run_worker(settings, listener)
        supervisor = Supervisor(listener=listener, workers=settings.workers, drain_seconds=settings.drain_seconds)
        return supervisor.run()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise OSError(f"cannot listen on {host} port {port}: {error.strerror or error}") from error
