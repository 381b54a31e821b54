"""What the demo leaves behind for the command line, and how to get what a part of the command line needs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import get_args

import pytest

from app.cli.demo_data import write_environment
from app.extras import Extra, how_to_install

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


@pytest.mark.parametrize("extra", get_args(Extra))
def test_a_hint_names_an_extra_that_there_is_and_installs_it_from_the_clone(extra: Extra) -> None:
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert extra in project["optional-dependencies"]
    assert re.fullmatch(rf"\.venv/bin/python -m pip install -e '\.\[{extra}\]'", how_to_install(extra))


def test_no_hint_and_no_page_installs_the_package_by_its_name() -> None:
    pages = [*_ROOT.glob("app/**/*.py"), *_ROOT.glob("docs/**/*.md"), _ROOT / "README.md"]
    assert [str(page) for page in pages if "channel-gate[" in page.read_text(encoding="utf-8")] == []
