"""Every metric of the service. The names are a contract with the dashboard and the alerts.

Labels are few and bounded, and none is an id. Gauges are `live` ones, so that a dead worker's value goes with it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, TypeAlias, get_args

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

from app.observability.exposition import CONTENT_TYPE, REGISTRY, SNAPSHOT_CONFIRMED, render

__all__ = ["CONTENT_TYPE", "render"]

FlushFailure: TypeAlias = Literal["timeout", "connection", "database", "poison", "stale", "overload"]
HeldResult: TypeAlias = Literal["accept", "escalate", "reject", "superseded", "lapsed"]
GaugeMode: TypeAlias = Literal["livesum", "livemax", "livemin", "liveall"]

CHANNEL_LABEL_LIMIT = 200
REASON_LABEL_LIMIT = 300
BUDGET_LABEL_LIMIT = 100
OTHER = "other"
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_MILLISECONDS = (
    *(0.0005, 0.001, 0.002, 0.003, 0.004, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075),
    *(0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0),
)
_ROWS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 256, 512, 1024)

disable_created_metrics()


class BoundedLabel:
    """Keeps one label to at most `limit` values; what comes after them is `other`.

    The values reserved first have their own, the others in the order in which they come. A value that has its own
    keeps it for the life of the process: a series must not change its meaning. So past the limit workers agree on what
    they reserved from the same list, and may differ in the rest: there a value's series and `other` both count it.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._labels: dict[str, str] = {}

    def reserve(self, values: Iterable[str]) -> None:
        """Give each of these a label of its own while there is room."""
        for value in values:
            self.label(value)

    def label(self, value: str) -> str:
        """The label that counts this value."""
        known = self._labels.get(value)
        if known is not None:
            return known
        if len(self._labels) >= self._limit:
            return OTHER
        self._labels[value] = value
        return value


class LateGauge:
    """A gauge without labels that is absent until it is known: a zero that nobody measured would raise an alarm."""

    def __init__(self, name: str, documentation: str, mode: GaugeMode) -> None:
        self._name, self._documentation, self._mode = name, documentation, mode
        self._gauge: Gauge | None = None

    def set(self, value: float) -> None:
        """Report the value."""
        if self._gauge is None:
            self._gauge = Gauge(self._name, self._documentation, multiprocess_mode=self._mode, registry=REGISTRY)
        self._gauge.set(value)


def _counter(name: str, documentation: str, labels: tuple[str, ...] = ()) -> Counter:
    return Counter(name, documentation, labels, registry=REGISTRY)


def _gauge(name: str, documentation: str, mode: GaugeMode, labels: tuple[str, ...] = ()) -> Gauge:
    return Gauge(name, documentation, labels, multiprocess_mode=mode, registry=REGISTRY)


def _histogram(
    name: str, documentation: str, labels: tuple[str, ...] = (), buckets: tuple[float, ...] = _MILLISECONDS
) -> Histogram:
    return Histogram(name, documentation, labels, buckets=buckets, registry=REGISTRY)


# Decisions.
DECISIONS = _counter(
    "gate_decisions", "Durable decisions by channel, tier and outcome.", ("channel", "tier", "outcome")
)
DECISION_REASONS = _counter("gate_decision_reasons", "Reasons stored with decisions, by rule code.", ("code",))
DECISION_SECONDS = _histogram("gate_decision_seconds", "Seconds from the whole body to the durable decision.")
UNKNOWN_CHANNEL = _counter("gate_unknown_channel", "Applications whose channel is not on the named list.")
REPLAYS = _counter("gate_replays", "Requests that were answered with the stored bytes of an earlier decision.")
CONFLICTS = _counter("gate_conflicts", "Requests refused because their key was decided for another body.")

# The flush.
FLUSH_SECONDS = _histogram("gate_flush_seconds", "Seconds that one durable flush took.")
FLUSH_ROWS = _histogram("gate_flush_rows", "Decisions written by one flush.", buckets=_ROWS)
FLUSH_FAILURES = _counter("gate_flush_failures", "Flushes, or rows of one, that failed, by kind.", ("kind",))
POISON = _counter("gate_poison", "Rows that the database refuses and that were set aside.")
QUEUE_DEPTH = _gauge("gate_queue_depth", "Decisions that wait for a flush.", "livesum")
CIRCUIT_OPEN = _gauge("gate_circuit_open", "1 while a worker refuses at once because the log is away.", "livemax")

# The snapshot and the rollout.
SNAPSHOT_VERSION = LateGauge("gate_snapshot_version", "Version of the policy that a worker decides under.", "liveall")
SNAPSHOT_REVISION = LateGauge("gate_snapshot_revision", "Revision of the snapshot that a worker holds.", "liveall")
SNAPSHOT_CONFIRMED_AT = LateGauge(SNAPSHOT_CONFIRMED, "When the slowest worker confirmed its snapshot.", "livemin")
WORKERS_LIVE = _gauge("gate_workers_live", "Worker processes that run.", "livesum")

# The challenger.
SHADOW_EVALUATIONS = _counter(
    "gate_shadow_evaluations", "Decisions offered to the challenger: agree, flip, error or dropped.", ("result",)
)
SHADOW_FLIPS = _counter(
    "gate_shadow_flips",
    "Decisions that the challenger would have made otherwise, by the outcome before and after.",
    ("channel", "tier", "before", "after"),
)
SHADOW_RESTARTS = _counter("gate_shadow_restarts", "Times that the challenger's process failed and was ended.")

# Telling originators.
WEBHOOK_DELIVERIES = _counter(
    "gate_webhook_deliveries",
    "Attempts to deliver an event: delivered, refused, timeout, unreachable or blocked.",
    ("result",),
)
OUTBOX_OLDEST = LateGauge(
    "gate_outbox_oldest_seconds", "How long the oldest event waits that a webhook has not taken.", "livemax"
)

# Budgets, and what accepts take of them.
BUDGET_LIMIT = _gauge("gate_budget_limit_units", "The most of a budget's present period.", "livemax", ("budget",))
BUDGET_USED = _gauge("gate_budget_used_units", "Reserved and posted of a budget in its period.", "livemax", ("budget",))
BUDGET_LEFT_RATIO = _gauge(
    "gate_budget_left_ratio", "How much of a budget accepts may still take, 0 to 1.", "livemin", ("budget",)
)
BUDGETS_EXHAUSTED = LateGauge("gate_budgets_exhausted", "Open budgets of which nothing is left.", "livemax")
RESERVATIONS_OPEN = LateGauge("gate_reservations_open", "Accepts that are neither funded nor ended.", "livemax")
RESERVATIONS_RESOLVED = _gauge(
    "gate_reservations_resolved_day", "Reservations that ended in the last 24 hours, by how.", "livemax", ("state",)
)
BUDGET_OVERRUNS = _gauge(
    "gate_budget_overruns_day",
    "Fundings of the last 24 hours above their reservation, or without one.",
    "livemax",
    ("kind",),
)
HELD_WAITING = LateGauge("gate_held_waiting", "Held decisions that wait for room in their budgets.", "livemax")
HELD_OLDEST = LateGauge("gate_held_oldest_seconds", "How long the oldest held decision has waited.", "livemax")
HELD_CLOSED = _counter(
    "gate_held_closed", "Held decisions that ended: accept, escalate, reject, superseded or lapsed.", ("result",)
)

# What became of applications.
OUTCOME_EVENTS = _counter(
    "gate_outcome_events",
    "Events reported over the API, by kind: accepted, repeated, superseded, waiting or flagged.",
    ("kind", "result"),
)
OUTCOME_CONTRADICTIONS = _gauge(
    "gate_outcome_contradictions",
    "Applications whose facts contradict each other or the decision.",
    "livemax",
    ("flag",),
)
OUTCOMES_WAITING = LateGauge(
    "gate_outcomes_waiting", "Applications that facts were reported of and that are not known.", "livemax"
)
OUTCOMES_WAITING_OLDEST = LateGauge(
    "gate_outcomes_waiting_oldest_seconds", "How long the oldest of those facts waits.", "livemax"
)
FEEDS_LATE = LateGauge(
    "gate_feeds_late", "Feeds whose performance lacks a month that ended more than 10 days ago.", "livemax"
)

# Reviews.
REVIEWS_OPEN = _gauge(
    "gate_reviews_open",
    "Reviews that wait for a person: fresh (under 24 hours), waiting, alarm (20 days), urgent (28) or overdue (30).",
    "livemax",
    ("age",),
)
REVIEWS_OLDEST = _gauge("gate_reviews_oldest_seconds", "How long the oldest open review has waited.", "livemax")
REVIEW_RESOLUTION_SECONDS = _histogram(
    "gate_review_resolution_seconds",
    "Seconds from the completed application, or the contest, to what a person decided.",
    ("resolution",),
    buckets=(3600, 14_400, 43_200, 86_400, 259_200, 604_800, 1_728_000, 2_419_200, 2_592_000),
)

# Whether the gate's own figures agree.
INVARIANT_VIOLATIONS = _gauge(
    "gate_invariant_violations", "Violations that the last run of `invariants verify` found.", "livemax", ("invariant",)
)
INVARIANTS_AGE = LateGauge("gate_invariants_age_seconds", "How long ago `invariants verify` last ended.", "livemin")

# HTTP.
HTTP_REQUESTS = _counter(
    "gate_http_requests", "Requests answered, by route template, method and status.", ("route", "method", "status")
)
HTTP_REQUEST_SECONDS = _histogram("gate_http_request_seconds", "Seconds to the last byte of the answer.", ("route",))
CONNECTIONS_ENDED = _counter(
    "gate_http_connections_ended",
    "Connections that were ended: reason slow, a request that did not come along; limit, one too many.",
    ("reason",),
)
RATE_LIMITED = _counter("gate_rate_limited", "Requests refused because an API key was over its limit.")

# Things to look after in time.
CHANNELS_EXPIRING = _gauge(
    "gate_channels_expiring", "Served channels whose agreement ends within so many days.", "livemax", ("within_days",)
)
PARTITIONS_AHEAD = LateGauge("gate_partitions_ahead_months", "Whole months of the log laid out ahead.", "livemin")
BREAK_GLASS_ACTIVE = _gauge(
    "gate_break_glass_active", "Changes of policy that one person made and no second one has confirmed.", "livemax"
)
BUILD_INFO = _gauge("gate_build_info", "1, with the version of the service.", "livemax", ("version",))

CHANNEL_LABELS = BoundedLabel(CHANNEL_LABEL_LIMIT)
_reason_labels = BoundedLabel(REASON_LABEL_LIMIT)
_budget_labels = BoundedLabel(BUDGET_LABEL_LIMIT)
_budgets_shown: set[str] = set()

# The library's labels() costs more than all the rest, so the hot path keeps the children that it has met.
_count_decision: dict[tuple[str, str, str], Callable[[], None]] = {}
_count_reason: dict[str, Callable[[], None]] = {}
_count_request: dict[tuple[str, str, int], Callable[[], None]] = {}
_observe_request: dict[str, Callable[[float], None]] = {}
_observe_decision = DECISION_SECONDS.observe
_UNPLACED_LIMIT = 4096
"""Keys past this are counted without being kept, so that no caller can fill the memory."""


def record_decision(*, channel: str, tier: str, outcome: str, reason_codes: Iterable[str], seconds: float) -> None:
    """Count one durable decision; 2 to 3 microseconds in a process of its own, about 7 beside other workers.

    channel: the canonical code of the registry. seconds: end to end in the service.
    """
    key = (channel, tier, outcome)
    count = _count_decision.get(key)
    if count is None:
        count = DECISIONS.labels(CHANNEL_LABELS.label(channel), tier, outcome).inc
        if len(_count_decision) < _UNPLACED_LIMIT:
            _count_decision[key] = count
    count()
    for code in reason_codes:
        count = _count_reason.get(code)
        if count is None:
            count = DECISION_REASONS.labels(_reason_labels.label(code)).inc
            if len(_count_reason) < _UNPLACED_LIMIT:
                _count_reason[code] = count
        count()
    _observe_decision(seconds)


def record_request(*, route: str, method: str, status: int, seconds: float) -> None:
    """Count one HTTP answer.

    route: the template ("/v1/decisions/{decision_id}"), never the path; "unmatched" where no route was found.
    """
    key = (route, method, status)
    count = _count_request.get(key)
    if count is None:
        count = HTTP_REQUESTS.labels(route, method if method in _METHODS else OTHER, str(status)).inc
        if len(_count_request) < _UNPLACED_LIMIT:
            _count_request[key] = count
    count()
    observe = _observe_request.get(route)
    if observe is None:
        observe = _observe_request[route] = HTTP_REQUEST_SECONDS.labels(route).observe
    observe(seconds)


def record_shadow(*, channel: str, tier: str, before: str, after: str) -> None:
    """Count one evaluation of the challenger: the outcome that stands, and the one that it would have made."""
    if before == after:
        SHADOW_EVALUATIONS.labels("agree").inc()
        return
    SHADOW_EVALUATIONS.labels("flip").inc()
    SHADOW_FLIPS.labels(CHANNEL_LABELS.label(channel), tier, before, after).inc()


def record_flush(*, rows: int, seconds: float) -> None:
    """Count one durable flush."""
    FLUSH_SECONDS.observe(seconds)
    FLUSH_ROWS.observe(rows)


def record_flush_failure(kind: FlushFailure) -> None:
    """Count one failure of a flush."""
    FLUSH_FAILURES.labels(kind).inc()


def record_snapshot(*, policy_version: int, revision: int) -> None:
    """Report the snapshot that this worker has just loaded or found still to be current."""
    SNAPSHOT_VERSION.set(policy_version)
    SNAPSHOT_REVISION.set(revision)
    SNAPSHOT_CONFIRMED_AT.set(time.time())


def record_invariants(violations: Mapping[str, int], age_seconds: float) -> None:
    """Report what the last run found: invariant -> violations, and how long ago that was."""
    for invariant, count in violations.items():
        INVARIANT_VIOLATIONS.labels(invariant).set(count)
    INVARIANTS_AGE.set(age_seconds)


def record_review(resolution: str, seconds: float) -> None:
    """Count what a reviewer has decided, `accept` or `reject`, and how long it took."""
    REVIEW_RESOLUTION_SECONDS.labels(resolution).observe(seconds)


def record_reviews_open(counts: Mapping[str, int], oldest_seconds: float) -> None:
    """Report the queue: how many reviews of each class of age are open, and the age of the oldest (0: none)."""
    for age, reviews in counts.items():
        REVIEWS_OPEN.labels(age).set(reviews)
    REVIEWS_OLDEST.set(oldest_seconds)


def record_channels_expiring(counts: dict[int, int]) -> None:
    """Report how many served channels end within so many days: days -> channels."""
    for days, channels in counts.items():
        CHANNELS_EXPIRING.labels(str(days)).set(channels)


def record_budgets(found: Iterable[tuple[str, int, int, int]]) -> None:
    """Report open budgets, those with the least left first: name, cap, what is used and what is left.

    Past the limit of labels only the least ratio is told, as `other`. A budget that has ended is no number any more.
    """
    least: dict[str, float] = {}
    exhausted = 0
    for name, cap, used, left in found:
        label = _budget_labels.label(name)
        ratio = left / cap if cap else 0.0
        exhausted += left == 0
        least[label] = min(ratio, least.get(label, ratio))
        if label != OTHER:
            BUDGET_LIMIT.labels(label).set(cap)
            BUDGET_USED.labels(label).set(used)
    for label in _budgets_shown - set(least):
        for gauge in (BUDGET_LIMIT, BUDGET_USED, BUDGET_LEFT_RATIO):
            gauge.labels(label).set(math.nan)
    for label, ratio in least.items():
        BUDGET_LEFT_RATIO.labels(label).set(ratio)
    _budgets_shown.update(least)
    BUDGETS_EXHAUSTED.set(exhausted)


def record_worker_started(version: str) -> None:
    """Report that this worker process runs, and which version of the service it is."""
    WORKERS_LIVE.set(1)
    BUILD_INFO.labels(version).set(1)
    for kind in get_args(FlushFailure):
        FLUSH_FAILURES.labels(kind)  # from zero, or the first failure of a kind would be no increase
    for result in get_args(HeldResult):
        HELD_CLOSED.labels(result)
