"""The Dockerfile: linted, and held against the project that it builds and the service that it starts."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tests.shipping.service_facts import ROOT, parse_command, require_settings, routes

_INSTRUCTION = re.compile(r"^([A-Z]+)\s+(.*)$", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of the Dockerfile."""

    base: str
    instructions: tuple[tuple[str, str], ...]
    """(name, argument), continuation lines joined."""

    def all(self, name: str) -> list[str]:
        """The arguments of every instruction of that name."""
        return [argument for found, argument in self.instructions if found == name]

    def last(self, name: str) -> str:
        """The argument of the instruction that holds in the end."""
        return self.all(name)[-1]

    def environment(self) -> dict[str, str]:
        """What ENV sets."""
        pairs = [word.partition("=") for line in self.all("ENV") for word in shlex.split(line)]
        return {name: value for name, _, value in pairs}


def _stages() -> list[Stage]:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    stages: list[tuple[str, list[tuple[str, str]]]] = []
    for line in joined.splitlines():
        match = _INSTRUCTION.match(line)
        assert match, line
        if match[1] == "FROM":
            stages.append((match[2], []))
        elif stages:
            stages[-1][1].append((match[1], match[2]))
    return [Stage(base=base, instructions=tuple(instructions)) for base, instructions in stages]


BUILD, FINAL = _stages()


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    done = subprocess.run(
        [hadolint, "--failure-threshold", "info", ROOT / "Dockerfile"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_both_stages_start_from_the_same_slim_python_that_the_project_allows() -> None:
    declared = re.search(r"^ARG PYTHON_IMAGE=python:([0-9.]+)-slim$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert declared
    assert BUILD.base == "${PYTHON_IMAGE} AS build"
    assert FINAL.base == "${PYTHON_IMAGE}"
    required = re.search(r'requires-python = "([^"]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert required
    assert f"{declared[1]}.0" in SpecifierSet(required[1])


def test_packages_are_wheels_with_known_hashes() -> None:
    installs = [command for run in BUILD.all("RUN") for command in run.split("&&") if " install " in command]
    assert len(installs) == 3
    for command in installs:
        locked = "--require-hashes --only-binary :all: --requirement requirements/" in re.sub(r"\s+", " ", command)
        only_ourselves = "--no-deps --no-index /tmp/dist/*.whl" in command
        assert locked != only_ourselves, command


def test_the_build_lock_holds_the_build_backend() -> None:
    locked = re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements" / "build.lock").read_text(), re.MULTILINE)
    requires = re.search(r"^requires = \[(.*)\]$", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert requires
    assert {Requirement(name.strip(' "')).name for name in requires[1].split(",")} <= set(locked)


def test_no_compiler_and_no_package_manager_reaches_the_final_stage() -> None:
    runs = " ".join([*BUILD.all("RUN"), *FINAL.all("RUN")])
    assert not re.search(r"\b(apt|apt-get|gcc|make|curl|wget)\b", runs)
    assert "python -m venv --without-pip /opt/venv" in " ".join(BUILD.all("RUN"))
    assert "pip uninstall" in " ".join(FINAL.all("RUN"))
    assert [copy.split()[1:] for copy in FINAL.all("COPY")] == [
        ["/opt/venv", "/opt/venv"],
        ["/srv/channel-gate", "/srv/channel-gate"],
    ]


def test_the_service_runs_as_nobody_in_particular() -> None:
    user = FINAL.last("USER")
    assert re.fullmatch(r"[1-9][0-9]{4,}:[1-9][0-9]{4,}", user), "a number, so that runAsNonRoot can be checked"
    last_write = max(i for i, (name, _) in enumerate(FINAL.instructions) if name in {"RUN", "COPY"})
    assert [name for name, _ in FINAL.instructions].index("USER") > last_write
    assert not [copy for copy in FINAL.all("COPY") if "--chown" in copy], "the code belongs to root"


def test_the_entry_point_starts_the_service() -> None:
    assert json.loads(FINAL.last("ENTRYPOINT")) == ["channel-gate"]
    assert parse_command(json.loads(FINAL.last("CMD"))) == "channel-gate serve"
    assert 'channel-gate = "app.cli:main"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_the_environment_names_only_settings_of_the_service() -> None:
    environment = FINAL.environment()
    ours = {name: value for name, value in environment.items() if name.startswith("GATE_") or name == "PORT"}
    require_settings(ours)
    assert environment["PORT"] == FINAL.last("EXPOSE")
    assert environment["GATE_HOST"] == "0.0.0.0"
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1", "the root file system may be read-only"


def test_everything_that_is_copied_passes_the_ignore_file() -> None:
    sources = [source for copy in BUILD.all("COPY") for source in copy.split()[:-1]]
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert lines[1] == "*", "nothing is sent but what is named"
    named = {line[1:] for line in lines if line.startswith("!")}
    assert named == set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source


def _health_check() -> list[str]:
    arguments = FINAL.last("HEALTHCHECK").partition(" CMD ")[2]
    command: list[str] = json.loads(arguments)
    assert command[0] == "python"
    return [sys.executable, *command[1:]]


@contextmanager
def _answering(status: int) -> Iterator[tuple[int, list[str]]]:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_port, asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_the_health_check_believes_the_answer_of_livez(status: int, healthy: bool) -> None:
    with _answering(status) as (port, asked):
        done = subprocess.run(_health_check(), env={"PORT": str(port)}, capture_output=True, check=False, timeout=20)
    assert asked == ["/livez"]
    assert (done.returncode == 0) is healthy


def test_the_health_check_fails_where_nobody_listens() -> None:
    with _answering(200) as (port, _):
        pass
    done = subprocess.run(_health_check(), env={"PORT": str(port)}, capture_output=True, check=False, timeout=20)
    assert done.returncode != 0


def test_the_health_check_asks_a_path_of_the_service() -> None:
    paths = set(re.findall(r"(/[a-z]+z)\b", " ".join(_health_check())))
    assert paths
    assert paths <= routes()
