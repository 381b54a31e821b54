"""What /metrics answers: the figures of this process, or of all workers of one service put together.

With several workers, each writes its figures to files in PROMETHEUS_MULTIPROC_DIR, and whoever is asked reads them all.
This module defines no metric, so that the parent process can use it without files of its own.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    ProcessCollector,
    generate_latest,
    start_http_server,
)
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

CONTENT_TYPE = CONTENT_TYPE_LATEST
MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
SNAPSHOT_CONFIRMED = "gate_snapshot_confirmed_timestamp_seconds"
SNAPSHOT_AGE = "gate_snapshot_age_seconds"

REGISTRY = CollectorRegistry()
"""The metrics of this process; not the library's global one, which anything that is imported may add to."""


def render() -> bytes:
    """The text of /metrics, for all workers. Takes some milliseconds: call it off the event loop."""
    return generate_latest(_scrape_registry())


def serve_metrics(*, host: str, port: int) -> Callable[[], None]:
    """Answer /metrics on a port of its own, from a thread; returns what stops it.

    Raises:
        OSError: where the port cannot be had.
    """
    server, thread = start_http_server(port, addr=host, registry=_scrape_registry())

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop


def retire_worker(pid: int, directory: Path | None = None) -> None:
    """Take the gauges of a dead worker away and keep what it counted, in one file for all the dead.

    Counters must not go back when a worker dies, and the files must not pile up while one crashes again and again.
    """
    folder = directory or _multiprocess_directory()
    if folder is None:
        return
    with _file_lock(folder, fcntl.LOCK_EX):
        mark_process_dead(pid, str(folder))
        for kind in ("counter", "histogram", "summary"):
            _fold(folder / f"{kind}_{pid}.db", folder / f"{kind}_retired.db")


def _fold(dead: Path, retired: Path) -> None:
    if not dead.exists():
        return
    totals = MmapedDict(str(retired))
    try:
        for key, value, _, _ in MmapedDict.read_all_values_from_file(str(dead)):
            before, _ = totals.read_value(key)
            totals.write_value(key, before + value, 0.0)
    finally:
        totals.close()
    dead.unlink()


def _scrape_registry() -> CollectorRegistry:
    folder = _multiprocess_directory()
    registry = CollectorRegistry()
    if folder is None:
        registry.register(_WithSnapshotAge(REGISTRY.collect))
        ProcessCollector(registry=registry)
    else:
        registry.register(_WithSnapshotAge(lambda: _collect_files(folder)))
    return registry


def _collect_files(folder: Path) -> list[Metric]:
    with _file_lock(folder, fcntl.LOCK_SH):
        return list(MultiProcessCollector(None, path=str(folder)).collect())


class _WithSnapshotAge(Collector):
    """Adds the age of the oldest snapshot, reckoned when it is asked for.

    A worker that hangs could not report its own age growing.
    """

    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        for metric in self._collect():
            yield metric
            if metric.name == SNAPSHOT_CONFIRMED and metric.samples:
                oldest = min(sample.value for sample in metric.samples)
                age = max(0.0, time.time() - oldest)
                yield GaugeMetricFamily(SNAPSHOT_AGE, "Seconds since the slowest worker confirmed its snapshot.", age)


def _multiprocess_directory() -> Path | None:
    folder = os.environ.get(MULTIPROCESS_VARIABLE)
    return Path(folder) if folder else None


@contextmanager
def _file_lock(folder: Path, mode: int) -> Iterator[None]:
    """Readers share, the one who folds files excludes them: else a scrape would count a dead worker twice or not."""
    lock = os.open(folder / "fold.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, mode)
        yield
    finally:
        os.close(lock)
