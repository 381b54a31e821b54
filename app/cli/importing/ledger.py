"""What is done of an import, kept beside it so that it can go on after any end, also a kill: the state file and the
rejects file.

The state names the last row up to which every row is answered or rejected, what came out so far, and how long the
rejects file was then. Rows behind it are sent again, which is harmless: a decision is made once.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Self

from app.cli.errors import CommandError
from app.cli.importing.mapper import RowProblem
from app.cli.importing.sender import Answer, Decided

_STATE_VERSION = 1
_FINGERPRINT_BYTES = 1_048_576


@dataclass(slots=True, kw_only=True)
class ChannelTally:
    """What became of one channel's rows. `reasons` counts rows by principal reason."""

    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True, kw_only=True)
class Tally:
    """What came out so far: rows done, decided by channel, rejected by kind, failed by no fault of theirs."""

    rows: int = 0
    failed: int = 0
    channels: dict[str, ChannelTally] = field(default_factory=dict)
    rejects: Counter[str] = field(default_factory=Counter)

    @property
    def decided(self) -> int:
        """Rows that have a decision."""
        return sum(tally.outcomes.total() for tally in self.channels.values())

    @property
    def rejected(self) -> int:
        """Rows that are in the rejects file."""
        return self.rejects.total()

    def count(self, decided: Decided) -> None:
        """Count one decision."""
        channel = self.channels.setdefault(decided.channel_code, ChannelTally())
        channel.outcomes[decided.outcome] += 1
        channel.reasons.update(decided.reasons)

    def document(self) -> dict[str, Any]:
        """As the state file and `--json` write it."""
        return {
            "rows": self.rows,
            "decided": self.decided,
            "rejected": self.rejected,
            "failed": self.failed,
            "channels": {
                code: {"outcomes": dict(tally.outcomes), "reasons": dict(tally.reasons.most_common())}
                for code, tally in sorted(self.channels.items())
            },
            "rejects": dict(self.rejects.most_common()),
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """The tally that was written. Raises KeyError, TypeError or ValueError where it was not this."""
        return cls(
            rows=int(document["rows"]),
            failed=int(document["failed"]),
            channels={
                str(code): ChannelTally(outcomes=Counter(tally["outcomes"]), reasons=Counter(tally["reasons"]))
                for code, tally in document["channels"].items()
            },
            rejects=Counter(document["rejects"]),
        )


def fingerprint(path: Path, *others: str) -> str:
    """What tells this input from another: its size, its first and last mebibyte, and `others` (mapping, service)."""
    size = path.stat().st_size
    content = hashlib.sha256(f"{size}".encode())
    with path.open("rb") as file:
        content.update(file.read(_FINGERPRINT_BYTES))
        file.seek(max(0, size - _FINGERPRINT_BYTES))
        content.update(file.read(_FINGERPRINT_BYTES))
    for other in others:
        content.update(b"\x00" + other.encode())
    return content.hexdigest()


class Ledger:
    """Accounts for rows in their order. Use as a context manager; `save` makes durable what was accounted for."""

    def __init__(self, *, state_path: Path, rejects_path: Path, input_fingerprint: str, resume: bool) -> None:
        """Raises CommandError where there is no state to resume from, or one of another input, mapping or service."""
        self._state_path = state_path
        self._fingerprint = input_fingerprint
        self.tally, rejects_bytes = self._read() if resume else (Tally(), 0)
        try:
            self._rejects: BinaryIO = rejects_path.open("r+b" if resume and rejects_path.exists() else "wb")
            if self._rejects.seek(0, os.SEEK_END) < rejects_bytes:
                raise CommandError(f"{rejects_path} is shorter than when the import stopped; start without --resume")
            self._rejects.seek(rejects_bytes)
            self._rejects.truncate()
            self.save()
        except OSError as error:
            raise CommandError(f"{error.filename or state_path} cannot be written; say --state and --rejects") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.save()
        self._rejects.close()

    def reject(self, row: int, kind: str, problems: tuple[RowProblem, ...], application_id: str | None) -> None:
        """Account for the next row: it is no application, or the service does not decide it."""
        found = [problem.document() for problem in problems]
        line = {"row": row, "application_id": application_id, "kind": kind, "problems": found}
        self._rejects.write(json.dumps(line, ensure_ascii=False).encode(errors="replace") + b"\n")
        self.tally.rejects[kind] += 1
        self.tally.rows = row

    def answer(self, row: int, answer: Answer, application_id: str) -> None:
        """Account for the next row: the service has answered."""
        if isinstance(answer, Decided):
            self.tally.count(answer)
            self.tally.rows = row
        else:
            self.reject(row, answer.kind, answer.problems, application_id)
            self.tally.failed += answer.failed

    def save(self) -> None:
        """Write the state so that a kill at any moment leaves the old one or the new one."""
        self._rejects.flush()
        os.fsync(self._rejects.fileno())
        document = {
            "version": _STATE_VERSION,
            "input": self._fingerprint,
            "rejects_bytes": self._rejects.tell(),
            "tally": self.tally.document(),
        }
        staging = self._state_path.with_name(self._state_path.name + ".new")
        with staging.open("w", encoding="utf-8") as file:
            json.dump(document, file)
            file.flush()
            os.fsync(file.fileno())
        staging.replace(self._state_path)

    def _read(self) -> tuple[Tally, int]:
        try:
            document = json.loads(self._state_path.read_bytes())
            if document["version"] != _STATE_VERSION:
                raise ValueError
            state_input, rejects_bytes = document["input"], int(document["rejects_bytes"])
            tally = Tally.from_document(document["tally"])
        except FileNotFoundError:
            raise CommandError(f"{self._state_path} is not there; start without --resume") from None
        except (AttributeError, KeyError, TypeError, ValueError):
            raise CommandError(f"{self._state_path} is no state of an import; start without --resume") from None
        if state_input != self._fingerprint:
            raise CommandError("the file, the mapping or the service is another than before; start without --resume")
        return tally, rejects_bytes
