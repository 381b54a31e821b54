"""The plain SQL of the migrations: each file belongs to one migration, and that one alone runs it."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from alembic.script import Script, ScriptDirectory

from app.db import schema, sql_files

_ROOT = Path(__file__).resolve().parents[2]
_SQL = _ROOT / "migrations" / "sql"
SCRIPTS = list(ScriptDirectory.from_config(schema.alembic_config()).walk_revisions())


def _called(script: Script, function: str) -> list[tuple[str, str]]:
    """What a migration runs on its way up or down: revision and direction of each call."""
    calls: list[tuple[str, str]] = []

    def note(_: object, revision: str, direction: str = "up") -> None:
        calls.append((revision, direction))

    class Operations:
        @staticmethod
        def get_bind() -> None:
            return None

    code: Any = getattr(script.module, function)
    names = code.__globals__
    before = {name: names[name] for name in ("op", "run_sql_files")}
    names.update(op=Operations, run_sql_files=note)
    try:
        code()
    finally:
        names.update(before)
    return calls


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.revision)
def test_a_migration_runs_the_files_of_its_own_number_and_no_others(script: Script) -> None:
    assert _called(script, "upgrade") == [(script.revision, "up")]
    assert _called(script, "downgrade") == [(script.revision, "down")]
    assert sorted((_SQL / script.revision).glob("*.sql"))
    assert sorted((_SQL / script.revision / "down").glob("*.sql"))


def test_every_file_lies_where_one_migration_runs_it() -> None:
    folders = {_SQL / script.revision for script in SCRIPTS}
    run = {path for folder in folders for path in (*folder.glob("*.sql"), *(folder / "down").glob("*.sql"))}
    assert set(_SQL.rglob("*.sql")) == run
    assert len(folders) == len(SCRIPTS)


def test_nothing_but_the_migrations_runs_such_a_file() -> None:
    callers = {
        path.relative_to(_ROOT).parts[0]
        for path in (*_ROOT.glob("app/**/*.py"), *_ROOT.glob("migrations/**/*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) == sql_files.run_sql_files.__name__
    }
    assert callers == {"migrations"}
