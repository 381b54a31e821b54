"""Logs: JSON lines that can carry nothing but what is on the list."""

from __future__ import annotations

import ast
import contextlib
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from app.observability.logs import ALLOWED_FIELDS, configure_logs

_APP = Path(__file__).resolve().parents[2] / "app"
_LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}
_SECRET = "Zhang San 110101199003070011"


class _Lines:
    """What was written so far."""

    def __init__(self, captured: pytest.CaptureFixture[bytes]) -> None:
        self._captured = captured
        self._text = ""

    @property
    def text(self) -> str:
        self._text += self._captured.readouterr().err.decode()
        return self._text

    def read(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]


@pytest.fixture
def lines(capsysbinary: pytest.CaptureFixture[bytes]) -> Iterator[_Lines]:
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    disabled = {name: logging.getLogger(name).disabled for name in ("uvicorn.access", "httpx", "httpcore")}
    configure_logs(level="info")
    yield _Lines(capsysbinary)
    root.handlers, root.level = before
    for name, was in disabled.items():
        logging.getLogger(name).disabled = was
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def test_a_line_says_what_when_where_and_how_bad(lines: _Lines) -> None:
    structlog.get_logger("app.somewhere").warning("flush_failed", rows=64, seconds=0.5)
    (line,) = lines.read()
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "flush_failed", "level": "warning", "logger": "app.somewhere", "rows": 64, "seconds": 0.5}


def test_a_field_that_is_not_on_the_list_is_dropped_and_named(lines: _Lines) -> None:
    structlog.get_logger("app").info("decided", applicant_name=_SECRET, channel="app-store")
    assert lines.read()[0]["dropped_fields"] == "applicant_name"
    assert lines.read()[0]["channel"] == "app-store"
    assert _SECRET not in lines.text


def test_a_listed_field_that_holds_a_structure_is_dropped(lines: _Lines) -> None:
    structlog.get_logger("app").info("decided", reason={"applicant": _SECRET}, count=[_SECRET])
    assert lines.read()[0]["dropped_fields"] == "count reason"
    assert _SECRET not in lines.text


def test_an_exception_is_told_by_type_and_place_without_its_message(lines: _Lines) -> None:
    try:
        int(_SECRET)
    except ValueError:
        structlog.get_logger("app").exception("not_a_number")
    (line,) = lines.read()
    assert line["error_type"] == "builtins.ValueError"
    assert "observability/test_logs.py:" in line["error_at"]
    assert _SECRET not in lines.text


def test_the_sqlstate_of_a_database_error_is_told(lines: _Lines) -> None:
    error = RuntimeError(_SECRET)
    error.sqlstate = "23505"  # type: ignore[attr-defined]
    structlog.get_logger("app").error("refused", exc_info=error)
    assert lines.read()[0]["sqlstate"] == "23505"
    assert _SECRET not in lines.text


def test_a_library_is_told_by_its_template(lines: _Lines) -> None:
    logging.getLogger("some.library").warning("cannot parse %r", _SECRET)
    logging.getLogger("some.library").error("more\n%s", _SECRET, exc_info=ValueError(_SECRET))
    first, second = lines.read()
    assert first["event"] == "cannot parse %r"
    assert (second["event"], second["error_type"]) == ("more", "builtins.ValueError")
    assert _SECRET not in lines.text


def test_the_server_is_told_in_full_and_writes_no_line_per_request(lines: _Lines) -> None:
    logging.getLogger("uvicorn.error").info("Started server process [%d]", 7)
    logging.getLogger("uvicorn.access").info('%s - "%s %s" %d', "1.2.3.4", "GET", f"/v1?name={_SECRET}", 200)
    assert [line["event"] for line in lines.read()] == ["Started server process [7]"]


def test_what_the_edge_binds_is_on_the_lines_of_its_request(lines: _Lines) -> None:
    with structlog.contextvars.bound_contextvars(request_id="r-1", trace_id="ab" * 16, span_id="cd" * 8):
        structlog.get_logger("app").info("inside")
    structlog.get_logger("app").info("outside")
    inside, outside = lines.read()
    assert (inside["request_id"], inside["trace_id"], inside["span_id"]) == ("r-1", "ab" * 16, "cd" * 8)
    assert "request_id" not in outside


def test_lines_below_the_level_are_not_written(lines: _Lines) -> None:
    structlog.get_logger("app").debug("detail")
    assert lines.text == ""


def test_the_console_format_drops_the_same_fields(lines: _Lines) -> None:
    configure_logs(level="info", log_format="console")
    structlog.get_logger("app").info("decided", applicant_name=_SECRET)
    assert "decided" in lines.text
    assert _SECRET not in lines.text


def _log_calls() -> list[tuple[str, ast.Call]]:
    """Every call of a structlog logger in the product."""
    calls = []
    for path in sorted(_APP.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in _LEVELS
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id in {"log", "_log", "logger"}
            ):
                calls.append((f"{path.relative_to(_APP)}:{node.lineno}", node))
    return calls


def test_every_log_call_of_the_product_has_a_constant_event_and_listed_fields() -> None:
    calls = _log_calls()
    assert calls
    for where, call in calls:
        if where.startswith("observability/logs.py"):
            continue
        assert len(call.args) == 1, where
        assert isinstance(call.args[0], ast.Constant), where
        fields = {keyword.arg for keyword in call.keywords} - {"exc_info"}
        assert fields <= ALLOWED_FIELDS, where


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_line_that_cannot_be_written_is_lost_and_nothing_else(lines: _Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Path("/dev/full").open("w", encoding="utf-8")  # noqa: SIM115 - no write to it finds space, nor does its end
    monkeypatch.setattr(sys, "stderr", full)
    structlog.get_logger("app").error("flush_failed", rows=1)
    logging.getLogger("uvicorn.error").error("Finished server process")
    with contextlib.suppress(OSError):
        full.close()
    structlog.get_logger("app").error("flush_failed", rows=2)  # a stream that is closed is no better
    monkeypatch.undo()
    structlog.get_logger("app").error("flush_failed", rows=3)
    assert [line["rows"] for line in lines.read()] == [3]
