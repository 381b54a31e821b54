"""Metrics: right for one process, for several, and after one of them died."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.observability import exposition, metrics
from app.observability.metrics import OTHER, BoundedLabel
from tests.support.server import free_port

_WORKER = """
    import os, sys
    from app.observability import metrics
    metrics.record_worker_started("1.2.3")
    metrics.record_decision(channel="a", tier="prime", outcome="accept", reason_codes=(), seconds=0.004)
    metrics.record_decision(channel="a", tier="prime", outcome="reject", reason_codes=("X1", "X2"), seconds=0.2)
    metrics.QUEUE_DEPTH.set(5)
    metrics.CIRCUIT_OPEN.set(int(sys.argv[1]))
    metrics.PARTITIONS_AHEAD.set(int(sys.argv[2]))
    metrics.record_snapshot(policy_version=3, revision=int(sys.argv[2]))
    print("counted", flush=True)
    sys.stdin.read()
"""


def _values(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class _Worker:
    """A process that has counted and waits."""

    def __init__(self, folder: Path, *, circuit: int, partitions: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(_WORKER), str(circuit), str(partitions)],
            env={**os.environ, exposition.MULTIPROCESS_VARIABLE: str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "counted\n"
        self.pid = self._process.pid

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(exposition.MULTIPROCESS_VARIABLE, str(tmp_path))
    return tmp_path


def test_two_workers_are_read_as_one_service_also_after_one_died(folder: Path) -> None:
    first = _Worker(folder, circuit=1, partitions=3)
    second = _Worker(folder, circuit=0, partitions=2)
    try:
        both = _values(exposition.render().decode())
        accepted = ("gate_decisions_total", (("channel", "a"), ("outcome", "accept"), ("tier", "prime")))
        assert both[accepted] == 2
        assert both["gate_decision_reasons_total", (("code", "X2"),)] == 2
        assert both["gate_decision_seconds_count", ()] == 4
        assert both["gate_decision_seconds_bucket", (("le", "0.004"),)] == 2
        assert both["gate_decision_seconds_sum", ()] == pytest.approx(0.408)
        assert both["gate_queue_depth", ()] == 10
        assert both["gate_circuit_open", ()] == 1
        assert both["gate_workers_live", ()] == 2
        assert both["gate_partitions_ahead_months", ()] == 2
        assert both["gate_build_info", (("version", "1.2.3"),)] == 1

        first.kill()
        exposition.retire_worker(first.pid)
        after = _values(exposition.render().decode())
        assert after[accepted] == 2, "what a dead worker counted stays counted"
        assert after["gate_decision_seconds_bucket", (("le", "0.004"),)] == 2
        assert after["gate_decision_seconds_count", ()] == 4
        assert after["gate_queue_depth", ()] == 5
        assert after["gate_circuit_open", ()] == 0
        assert after["gate_workers_live", ()] == 1
        assert not [path.name for path in folder.glob(f"*_{first.pid}.db")]
    finally:
        first.kill()
        second.kill()
    exposition.retire_worker(second.pid)
    assert _values(exposition.render().decode())[accepted] == 2
    assert {path.name for path in folder.glob("*.db")} == {"counter_retired.db", "histogram_retired.db"}


def test_the_age_of_the_snapshot_is_that_of_the_slowest_worker_when_asked(folder: Path) -> None:
    worker = _Worker(folder, circuit=0, partitions=3)
    try:
        first = _values(exposition.render().decode())["gate_snapshot_age_seconds", ()]
        second = _values(exposition.render().decode())["gate_snapshot_age_seconds", ()]
        assert 0 <= first < second < 60
    finally:
        worker.kill()


def test_retiring_a_worker_that_counted_nothing_does_nothing(folder: Path) -> None:
    exposition.retire_worker(1)
    assert not list(folder.glob("*.db"))


def test_a_listener_of_its_own_answers_for_all_workers(folder: Path) -> None:
    worker = _Worker(folder, circuit=0, partitions=3)
    port = free_port()
    stop = exposition.serve_metrics(host="127.0.0.1", port=port)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            assert _values(answer.read().decode())["gate_workers_live", ()] == 1
    finally:
        stop()
        worker.kill()


def test_a_process_of_its_own_shows_its_figures() -> None:
    metrics.record_request(route="/v1/decisions", method="BREW", status=405, seconds=0.001)
    metrics.record_flush(rows=64, seconds=0.006)
    metrics.record_flush_failure("timeout")
    metrics.record_channels_expiring({60: 3, 7: 1})
    values = _values(metrics.render().decode())
    labels = (("method", OTHER), ("route", "/v1/decisions"), ("status", "405"))
    assert values["gate_http_requests_total", labels] >= 1
    assert values["gate_flush_rows_bucket", (("le", "64.0"),)] >= 1
    assert values["gate_flush_failures_total", (("kind", "timeout"),)] >= 1
    assert values["gate_channels_expiring", (("within_days", "60"),)] == 3
    assert any(name == "process_resident_memory_bytes" for name, _ in values)


def test_no_series_tells_when_it_was_created() -> None:
    assert "_created" not in metrics.render().decode()


def test_every_name_has_the_prefix_and_no_unit_but_base_units() -> None:
    names = {family.name for family in exposition.REGISTRY.collect()}
    assert all(re.fullmatch(r"gate_[a-z_]+", name) for name in names)
    assert not [name for name in names if name.endswith(("_ms", "_milliseconds", "_minutes"))]


def test_values_past_the_limit_share_one_label() -> None:
    labels = BoundedLabel(2)
    labels.reserve(["first"])
    assert [labels.label(value) for value in ("second", "third", "first", "second", "fourth")] == [
        *("second", OTHER, "first", "second", OTHER)
    ]


def test_a_channel_past_the_limit_is_counted_as_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "CHANNEL_LABELS", BoundedLabel(0))
    metrics.record_decision(channel="one-too-many", tier="risk", outcome="reject", reason_codes=(), seconds=0.001)
    text = metrics.render().decode()
    assert "one-too-many" not in text
    assert 'channel="other"' in text


def test_budgets_past_the_limit_share_one_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_budget_labels", BoundedLabel(1))
    metrics.record_budgets([("full", 10, 10, 0), ("half", 10, 5, 5), ("most", 10, 2, 8)])
    told = metrics.render().decode()
    assert 'gate_budget_left_ratio{budget="full"} 0.0' in told
    assert 'gate_budget_left_ratio{budget="other"} 0.5' in told
    assert 'gate_budget_limit_units{budget="other"}' not in told
    assert "gate_budgets_exhausted 1.0" in told
