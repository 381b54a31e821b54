"""JSON logs in which applicant data cannot appear: every line passes an allow-list of fields.

What may be said is a fixed event text and the fields named here. An exception is told by its type, its place in the
code and its SQLSTATE, never by its message: validators and PostgreSQL repeat the value that they refuse. Lines of
libraries are told by their template, without what was filled in, but for a few libraries that are known.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any, Final

import orjson
import structlog

ALLOWED_FIELDS: Final = frozenset(
    {
        *("event", "level", "logger", "timestamp"),
        *("request_id", "trace_id", "span_id", "process_id", "worker_id"),
        *("error_type", "error_at", "error_code", "sqlstate", "exit_code", "signal"),
        *("route", "method", "status", "seconds", "rows", "attempt", "delay_seconds", "deadline_seconds"),
        *("decision_id", "key_id", "originator", "role", "channel", "tier", "kind", "count", "reason"),
        *("policy_version", "snapshot_revision", "schema_revision", "engine_version", "version"),
        *("partition", "retention_class", "month", "day", "digest"),
        *("host", "port", "workers", "setting", "dropped_fields"),
        *("activated", "lapsed", "reverted", "overrides_ended", "failed"),
    }
)
"""The only fields of a log line. None of them is ever filled from an application's attributes."""

_VALUE_LIMIT: Final = 300
_FRAME_LIMIT: Final = 12
_KNOWN_LIBRARIES: Final = ("uvicorn", "alembic")
"""Their lines are filled with addresses, process ids and revisions, nothing else."""

Event = MutableMapping[str, Any]


def configure_logs(*, level: str = "info", log_format: str = "json") -> None:
    """Set up this process: our own lines and those of every library go the same way, to standard error."""
    threshold = logging.getLevelNamesMapping()[level.upper()]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(serializer=orjson.dumps)
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_logger_name,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _tell_exception,
            keep_allowed_fields,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=_LineWriter,
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [_LibraryLines()]
    root.setLevel(max(threshold, logging.INFO))
    for name in ("uvicorn", "uvicorn.error", "uvicorn.asgi", "asyncio", "sqlalchemy", "alembic"):
        library = logging.getLogger(name)
        library.handlers = []
        library.propagate = True
    for name in ("uvicorn.access", "httpx", "httpcore"):  # one line a request, with its path
        logging.getLogger(name).disabled = True


def keep_allowed_fields(_logger: object, _method: str, event: Event) -> Event:
    """Drop every field that is not on the list and every value that is not plain; say which, not what."""
    kept: Event = {}
    dropped: list[str] = []
    for name, value in event.items():
        if name not in ALLOWED_FIELDS:
            dropped.append(name)
        elif isinstance(value, str):
            kept[name] = value if len(value) <= _VALUE_LIMIT or name == "error_at" else value[:_VALUE_LIMIT]
        elif value is None or isinstance(value, bool | int | float):
            kept[name] = value
        else:
            dropped.append(name)
    if dropped:
        kept["dropped_fields"] = " ".join(sorted(dropped))
    return kept


def _tell_exception(_logger: object, _method: str, event: Event) -> Event:
    """Turn `exc_info` into the type and the places in the code; the message stays untold."""
    given = event.pop("exc_info", None)
    if not given:
        return event
    error = given if isinstance(given, BaseException) else given[1] if isinstance(given, tuple) else sys.exc_info()[1]
    if error is None:
        return event
    event["error_type"] = f"{type(error).__module__}.{type(error).__qualname__}"
    frames = traceback.extract_tb(error.__traceback__)[-_FRAME_LIMIT:]
    event["error_at"] = " > ".join(f"{_short(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames)
    sqlstate = getattr(error, "sqlstate", None) or getattr(getattr(error, "orig", None), "sqlstate", None)
    if isinstance(sqlstate, str):
        event["sqlstate"] = sqlstate
    return event


def _short(filename: str) -> str:
    """The last two parts of a source file's path."""
    return "/".join(filename.replace("\\", "/").rsplit("/", 2)[-2:])


class _LineWriter:
    """Where a finished line goes: standard error, whole and at once, or nowhere.

    A full disk or a reader that is gone costs the line: what was going on when it was written must go on.
    """

    def __init__(self, name: str = "channel-gate") -> None:
        self.name = name

    def msg(self, line: bytes | str) -> None:
        """Write one line."""
        data = line if isinstance(line, bytes) else line.encode("utf-8", "replace")
        with contextlib.suppress(OSError, ValueError):  # ValueError: the stream is closed
            stream = sys.stderr.buffer
            stream.write(data + b"\n")
            stream.flush()

    debug = info = warning = error = critical = exception = log = msg


class _LibraryLines(logging.Handler):
    """Hands the lines of the standard library's loggers to the same pipe."""

    def emit(self, record: logging.LogRecord) -> None:
        known = record.name.partition(".")[0] in _KNOWN_LIBRARIES
        try:
            text = record.getMessage() if known else str(record.msg)
            line = text.strip().partition("\n")[0]
            logger = structlog.get_logger(record.name)
            level = min(record.levelno // 10 * 10, logging.CRITICAL) or logging.DEBUG
            logger.log(level, line, exc_info=record.exc_info or None)
        except Exception:
            self.handleError(record)
