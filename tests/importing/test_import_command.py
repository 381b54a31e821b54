"""`channel-gate import` against a running service: files in, durable decisions out, through kills and wrong calls."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from typer.testing import CliRunner

from app.cli import build_app, one_line
from app.cli.errors import CommandError
from tests.support.applications import application
from tests.support.server import Server, free_port

SECONDS_TO_START = 60.0
_UNSET = {"CHANNEL_GATE_URL": None, "CHANNEL_GATE_KEY": None}
ROWS = 1_500


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def result(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.out)
        return document


@pytest.fixture
def mapping(tmp_path: Path) -> Path:
    """Every field of an application that the default policy accepts, but for id, channel, amount and income."""
    body = application("any")
    fields: dict[str, Any] = {}
    for name, value in body.items():
        if name == "unknown":
            continue
        nested = {f"{name}.{key}": item for key, item in value.items()} if isinstance(value, dict) else {name: value}
        fields.update({path: {"constant": str(v) if isinstance(v, float) else v} for path, v in nested.items()})
    fields["application_id"] = {"column": "id"}
    fields["channel_code"] = {"column": "channel"}
    fields["amount"] = {"column": "amount", "as": "money"}
    fields["applicant.applicant_ref"] = {"template": "p-{id}"}
    fields["applicant.monthly_income"] = {"column": "income", "as": "money"}
    path = tmp_path / "mapping.json"
    path.write_text(json.dumps({"name": "test", "fields": fields, "unknown": body["unknown"]}))
    return path


def _write(path: Path, rows: list[tuple[str, str, str, str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "channel", "amount", "income"])
        writer.writerows(rows)
    return path


def _environment(server: Server | None, key: str | None) -> dict[str, str]:
    if server is None:
        return {
            "CHANNEL_GATE_URL": f"http://127.0.0.1:{free_port()}",
            **({} if key is None else {"CHANNEL_GATE_KEY": key}),
        }
    return {"CHANNEL_GATE_URL": server.base_url, "CHANNEL_GATE_KEY": key or server.database.keys["origination"]}


async def _import(server: Server | None, *arguments: str | Path, key: str | None = None) -> Done:
    """The command as `main` runs it, in a thread of this process."""
    call = partial(CliRunner().invoke, build_app(), ["import", *map(str, arguments)])
    ended = await asyncio.to_thread(call, env={**_UNSET, **_environment(server, key)})
    if isinstance(ended.exception, CommandError):
        return Done(1, ended.stdout, f"{ended.stderr}error: {one_line(ended.exception)}\n")
    if ended.exception is not None and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    return Done(ended.exit_code, ended.stdout, ended.stderr)


async def _start(server: Server, *arguments: str | Path) -> asyncio.subprocess.Process:
    """The command as a process of its own, which can be killed."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from app.cli import main; main()",
        "import",
        *map(str, arguments),
        env={**os.environ, **_environment(server, None)},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )


async def _count(server: Server) -> int:
    connection = await asyncpg.connect(server.database.superuser)
    try:
        found: int = await connection.fetchval("SELECT count(*) FROM gate.decisions")
    finally:
        await connection.close()
    return found


@pytest.mark.parametrize("options", [("--batch", "1"), ("--batch", "2")], ids=["one by one", "in batches"])
async def test_rows_are_decided_or_rejected_with_a_reason(
    gate_server: Server, tmp_path: Path, mapping: Path, options: tuple[str, ...]
) -> None:
    file = _write(
        tmp_path / "rows.csv",
        [
            ("a-1", "app-store", "20000.00", "15000"),
            ("a-2", "app-store", "20000.00", "1000"),
            ("a-3", "app-store", "much", "15000"),
            ("a-4", "no-such-channel", "20000.00", "15000"),
            ("a-5", "ios", "20000.00", ""),
        ],
    )
    done = await _import(gate_server, file, "--mapping", mapping, "--json", *options)
    assert (done.code, done.err) == (0, "")
    result = done.result
    assert (result["rows"], result["decided"], result["rejected"], result["failed"]) == (5, 3, 2, 0)
    assert result["channels"]["app-store"]["outcomes"] == {"accept": 1, "reject": 1, "escalate": 1}
    assert result["rejects"] == {"not-mapped": 1, "unknown-channel": 1}
    rejects = [json.loads(line) for line in (tmp_path / "rows.csv.rejects.ndjson").read_bytes().splitlines()]
    assert [(line["row"], line["kind"]) for line in rejects] == [(3, "not-mapped"), (4, "unknown-channel")]
    assert await _count(gate_server) == 3
    assert (await _import(gate_server, file, "--mapping", mapping, "--json")).result == result
    assert await _count(gate_server) == 3


async def test_another_body_under_the_same_id_is_listed_as_a_conflict(
    gate_server: Server, tmp_path: Path, mapping: Path
) -> None:
    rows = [("a-1", "app-store", "20000", "15000"), ("a-1", "app-store", "21000", "15000")]
    done = await _import(
        gate_server,
        _write(tmp_path / "r.csv", rows),
        "--mapping",
        mapping,
        "--json",
        "--batch",
        "1",
        "--concurrency",
        "1",
    )
    assert done.code == 0
    assert done.result["decided"] == 1
    assert done.result["rejects"] == {"application-conflict": 1}


async def test_after_a_kill_an_import_goes_on_and_every_row_is_decided_once(
    gate_server: Server, tmp_path: Path, mapping: Path
) -> None:
    amounts = [str(10_000 + n) for n in range(ROWS)]
    file = _write(tmp_path / "rows.csv", [(f"a-{n}", "app-store", amount, "15000") for n, amount in enumerate(amounts)])
    state = tmp_path / "rows.csv.import.json"
    process = await _start(gate_server, file, "--mapping", mapping, "--batch", "1")
    async with asyncio.timeout(SECONDS_TO_START):
        while not state.exists() or not json.loads(state.read_bytes())["tally"]["rows"]:
            assert process.returncode is None, "the import ended before it could be killed"
            await asyncio.sleep(0.02)
    process.kill()
    await process.wait()
    done_before = json.loads(state.read_bytes())["tally"]["rows"]
    assert 0 < done_before < ROWS
    done = await _import(gate_server, file, "--mapping", mapping, "--resume", "--json")
    assert (done.code, done.err) == (0, "")
    assert (done.result["rows"], done.result["decided"], done.result["rejected"]) == (ROWS, ROWS, 0)
    assert await _count(gate_server) == ROWS


async def test_a_wrong_key_ends_the_import_with_one_line(gate_server: Server, tmp_path: Path, mapping: Path) -> None:
    file = _write(tmp_path / "rows.csv", [("a-1", "app-store", "20000", "15000")])
    done = await _import(gate_server, file, "--mapping", mapping, key="cgk_wrong_wrong")
    assert done.code == 1
    assert done.err == "error: /v1/decisions/batch answered 401 unauthenticated\n"
    assert done.out == ""


async def test_a_service_that_is_away_ends_the_import_and_leaves_a_state(tmp_path: Path, mapping: Path) -> None:
    file = _write(tmp_path / "rows.csv", [("a-1", "app-store", "20000", "15000")])
    done = await _import(None, file, "--mapping", mapping, "--patience-seconds", "0", key="cgk_a_b")
    assert done.code == 1
    assert done.err.startswith("error: nothing got through for 0 s: ConnectError")
    assert json.loads((tmp_path / "rows.csv.import.json").read_bytes())["tally"]["rows"] == 0


async def test_without_a_key_nothing_is_sent(tmp_path: Path, mapping: Path) -> None:
    done = await _import(None, _write(tmp_path / "rows.csv", []), "--mapping", mapping)
    assert (done.code, done.err) == (1, "error: no API key: set CHANNEL_GATE_KEY or say --key\n")


async def test_a_mapping_that_cannot_be_used_is_told_by_line(tmp_path: Path) -> None:
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text("name: x\nfields: {}\ncolour: red\n")
    done = await _import(None, _write(tmp_path / "rows.csv", []), "--mapping", mapping)
    assert done.code == 1
    assert "mapping.yaml: line 2: fields: must name amount, application_id" in done.err
    assert "mapping.yaml: line 3: colour: is not a known key" in done.err


async def test_a_dry_run_counts_faults_and_sends_nothing(tmp_path: Path, mapping: Path) -> None:
    rows = [("a-1", "app-store", "20000", "15000"), ("a-2", "app-store", "x", "y"), ("a-3", "app-store", "x", "1")]
    done = await _import(None, _write(tmp_path / "rows.csv", rows), "--mapping", mapping, "--dry-run", "--json")
    assert done.code == 0
    assert done.result == {"rows": 3, "faults": {"amount: must be a number": 2, "income: must be a number": 1}}
    assert not (tmp_path / "rows.csv.import.json").exists()


async def test_rejects_can_be_made_to_fail_the_command(gate_server: Server, tmp_path: Path, mapping: Path) -> None:
    file = _write(tmp_path / "rows.csv", [("a-1", "app-store", "x", "15000")])
    done = await _import(gate_server, file, "--mapping", mapping, "--fail-on-rejects")
    assert done.code == 3
    assert "1 rows: 0 decided, 1 in the rejects file (not-mapped 1)" in done.out
