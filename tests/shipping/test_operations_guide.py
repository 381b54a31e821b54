"""docs/operations.md: commands, settings, metrics and links in it exist."""

from __future__ import annotations

import re
import shlex

from tests.shipping.manifests import build, of_kind
from tests.shipping.service_facts import ROOT, has_command, metric_labels, parse_command, routes, setting_variables

TEXT = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^ *```sh\n(.*?)^ *```", TEXT, re.DOTALL | re.MULTILINE)


def test_commands_exist() -> None:
    spoken = re.findall(r"`(?:docker compose exec gate )?channel-gate ([a-z][^`]*)`", TEXT)
    typed = [line for block in BLOCKS for line in re.findall(r"\bchannel-gate ([a-z]+ .*)$", block, re.MULTILINE)]
    typed = [line for line in typed if not line.startswith(("exec ", "--"))]
    assert len(typed) >= 8
    for line in [*spoken, *(line.rpartition(" -- channel-gate ")[2] for line in typed)]:
        words = shlex.split(line)
        if words[-1] == "--help":
            assert has_command(words[:-1]), line
        else:
            assert parse_command(words)


def test_settings_are_read_by_the_service() -> None:
    named = set(re.findall(r"\bGATE_[A-Z_]+\b", TEXT))
    assert named
    assert named <= set(setting_variables())


def test_metrics_are_shown_by_the_service() -> None:
    assert set(re.findall(r"\bgate_[a-z_]+_total\b", TEXT)) <= set(metric_labels())


def test_paths_are_answered_by_the_service() -> None:
    assert set(re.findall(r"`(?:[A-Z]+ )?(/[a-z0-9/_{}]+)`", TEXT)) <= routes()


def test_every_job_is_in_the_table_with_its_command() -> None:
    table = dict(re.findall(r"^\| `(channel-gate-[a-z-]+)`, [^|]*\| `channel-gate ([^`]*)` \|", TEXT, re.MULTILINE))
    for job in of_kind("production", "CronJob"):
        [container] = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
        arguments = container["args"]
        if "--actor" in arguments:
            arguments = arguments[: arguments.index("--actor")]
        assert table.pop(job["metadata"]["name"]) == " ".join(arguments)
    assert not table


def test_every_secret_that_a_manifest_reads_is_listed() -> None:
    listed = set(re.findall(r"^\| `(channel-gate-[a-z-]+)` \| (?:kubernetes.io/basic-auth|Opaque)", TEXT, re.MULTILINE))
    text = str(build("production"))
    read = set(re.findall(r"'secretKeyRef': \{'key': '[^']+', 'name': '([^']+)'\}", text))
    read |= set(re.findall(r"'(?:passwordSecret|secret)': \{'name': '([^']+)'\}", text))
    read |= set(re.findall(r"'(?:accessKeyId|secretAccessKey)': \{'key': '[^']+', 'name': '([^']+)'\}", text))
    assert read == listed
    assert "`channel-gate-db-ca`" in TEXT


def test_files_that_are_named_exist() -> None:
    for name in re.findall(r"`((?:k8s|deploy|tests|app)/[\w./-]+)`", TEXT):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"\]\(([\w./-]+)\)", TEXT):
        assert (ROOT / "docs" / name).exists(), name
