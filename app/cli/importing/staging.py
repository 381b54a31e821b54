"""A file on its way into a staging table: rows checked here, copied in chunks, and accounted for beside the file.

The state file names the load, how many rows are behind it, and which slots are merged. A chunk is copied before it is
accounted for, so that a kill between the two copies it twice; merging is idempotent, and twice is once.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, BinaryIO, Self
from uuid import uuid4

from app.cli.errors import CommandError
from app.cli.importing.mapper import RowProblem

_STATE_VERSION = 1


@dataclass(slots=True, kw_only=True)
class LoadState:
    """How far a load is: `rows` of the file read, `staged` of them copied, `merged` slots, `results` of the merge."""

    load_id: str = field(default_factory=lambda: str(uuid4()))
    rows: int = 0
    staged: int = 0
    copied: bool = False
    merged: list[int] = field(default_factory=list)
    rejects: Counter[str] = field(default_factory=Counter)
    results: Counter[str] = field(default_factory=Counter)
    rejects_bytes: int = 0

    def document(self) -> dict[str, Any]:
        """As the command's `--json` prints it."""
        return {
            "rows": self.rows,
            "staged": self.staged,
            "rejected": self.rejects.total(),
            "rejects": dict(self.rejects.most_common()),
            **self.results,
        }


class LoadLedger:
    """Accounts for a load. Use as a context manager; `save` makes durable what was accounted for."""

    def __init__(self, *, state_path: Path, rejects_path: Path, input_fingerprint: str, resume: bool) -> None:
        """Raises CommandError where there is no state to resume from, or one of another input or mapping."""
        self._state_path = state_path
        self._fingerprint = input_fingerprint
        self.state = self._read() if resume else LoadState()
        try:
            self._rejects: BinaryIO = rejects_path.open("r+b" if resume and rejects_path.exists() else "wb")
            self._rejects.seek(self.state.rejects_bytes)
            self._rejects.truncate()
            self.save()
        except OSError as error:
            raise CommandError(f"{error.filename or state_path} cannot be written; say --state and --rejects") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self.save()
        finally:
            self._rejects.close()

    def start_over(self) -> None:
        """Forget what was copied: the staging table has lost it."""
        self.state = LoadState()
        self._rejects.seek(0)
        self._rejects.truncate()

    def reject(self, row: int, kind: str, problems: tuple[RowProblem, ...]) -> None:
        """Write down a row that is not taken, and why. No value of the row is written."""
        line = {"row": row, "kind": kind, "problems": [problem.document() for problem in problems]}
        self._rejects.write(json.dumps(line, ensure_ascii=False).encode(errors="replace") + b"\n")
        self.state.rejects[kind] += 1

    def save(self) -> None:
        """Write the state so that a kill at any moment leaves the old one or the new one."""
        self._rejects.flush()
        os.fsync(self._rejects.fileno())
        self.state.rejects_bytes = self._rejects.tell()
        load = {each.name: getattr(self.state, each.name) for each in fields(self.state)}
        document = {"version": _STATE_VERSION, "input": self._fingerprint, "load": load}
        staging = self._state_path.with_name(self._state_path.name + ".new")
        with staging.open("w", encoding="utf-8") as file:
            json.dump(document, file)
            file.flush()
            os.fsync(file.fileno())
        staging.replace(self._state_path)

    def _read(self) -> LoadState:
        try:
            document: Mapping[str, Any] = json.loads(self._state_path.read_bytes())
            if document["version"] != _STATE_VERSION:
                raise ValueError
            state_input, load = document["input"], dict(document["load"])
            load |= {name: Counter(load[name]) for name in ("rejects", "results")}
            state = LoadState(**load)
        except FileNotFoundError:
            raise CommandError(f"{self._state_path} is not there; start without --resume") from None
        except (AttributeError, KeyError, TypeError, ValueError):
            raise CommandError(f"{self._state_path} is no state of a load; start without --resume") from None
        if state_input != self._fingerprint:
            raise CommandError("the file, the mapping or the database is another than before; start without --resume")
        return state
