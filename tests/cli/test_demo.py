"""What the demo leaves behind for the command line, and how to get what a part of the command line needs."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import get_args

import httpx
import pytest

from app.cli.demo_data import write_environment
from app.extras import Extra, how_to_install
from tests.support.cluster import eventually
from tests.support.server import free_port

_ROOT = Path(__file__).resolve().parents[2]
_PRINT = "import json, os; print(json.dumps(dict(os.environ)))"


def test_a_shell_reads_the_environment_as_it_was_written_and_nobody_else_does(tmp_path: Path) -> None:
    variables = {"DATABASE_URL": 'postgresql://a:it\'s $HOME `x` "q"@/gate?host=/a b/c', "OWNER_DATABASE_URL": "x&y"}
    file = tmp_path / "new folder" / "env"
    write_environment(file, {"DATABASE_URL": "of yesterday"})
    write_environment(file, variables)
    assert file.stat().st_mode & 0o777 == 0o600
    script = f'set -a; . "$1"; set +a; exec "$2" -c "{_PRINT}"'
    told = subprocess.run(["sh", "-c", script, "sh", file, sys.executable], capture_output=True, check=True, text=True)
    assert variables.items() <= json.loads(told.stdout).items()


async def test_the_demo_serves_from_nothing_decides_what_it_left_ends_at_a_signal_and_can_be_removed() -> None:
    folder = Path(tempfile.mkdtemp(prefix="channel-gate-demo-"))
    folder.chmod(0o755)
    port = free_port()
    command = [sys.executable, "-c", "from app.cli import main; main()", "demo", "--directory", str(folder / "var")]
    own = {name: value for name, value in os.environ.items() if not name.startswith(("GATE_", "PROMETHEUS_"))}
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command, env=own | {"PORT": str(port)}, stdout=log, stderr=log, cwd=_ROOT
        )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:

            async def ready() -> bool:
                assert process.returncode is None, (folder / "log").read_text(encoding="utf-8")
                try:
                    return (await client.get("/readyz")).status_code == 200
                except httpx.TransportError:
                    return False

            await eventually(ready, timeout_seconds=90)
            key = json.loads((folder / "var" / "demo-keys.json").read_text(encoding="utf-8"))["origination"]
            body = (folder / "var" / "demo-application.json").read_bytes()
            headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
            answer = await client.post("/v1/decisions", content=body, headers=headers)
        assert (answer.status_code, answer.json()["outcome"]) == (200, "accept")
        assert key in (folder / "log").read_text(encoding="utf-8")
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 30) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        removing = await asyncio.create_subprocess_exec(*command, "--remove", env=own, cwd=_ROOT)
        assert await removing.wait() == 0
    assert not (folder / "var" / "postgres").exists()
    shutil.rmtree(folder)


@pytest.mark.parametrize("extra", get_args(Extra))
def test_a_hint_names_an_extra_that_there_is_and_installs_it_from_the_clone(extra: Extra) -> None:
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert extra in project["optional-dependencies"]
    assert re.fullmatch(rf"\.venv/bin/python -m pip install -e '\.\[{extra}\]'", how_to_install(extra))


def test_no_hint_and_no_page_installs_the_package_by_its_name() -> None:
    pages = [*_ROOT.glob("app/**/*.py"), *_ROOT.glob("docs/**/*.md"), _ROOT / "README.md"]
    assert [str(page) for page in pages if "channel-gate[" in page.read_text(encoding="utf-8")] == []
