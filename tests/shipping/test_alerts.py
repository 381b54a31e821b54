"""The alert rules: right for Prometheus, unit-tested, one source, and about metrics that exist."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
from typing import Any, get_args

import pytest
import yaml

from app.observability import exposition
from app.observability.metrics import FlushFailure
from tests.shipping import promql
from tests.shipping.service_facts import ROOT, default_setting, metric_labels, routes

FOLDER = ROOT / "deploy" / "prometheus"
GROUPS: list[dict[str, Any]] = yaml.safe_load((FOLDER / "alerts.yml").read_text(encoding="utf-8"))["groups"]
RULES: list[dict[str, Any]] = [rule for group in GROUPS for rule in group["rules"]]
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
OF_OTHERS = {"up": {"job"}, "kube_job_status_failed": {"job_name"}}
"""Metrics that Prometheus and kube-state-metrics provide."""
TARGET_LABELS = {"namespace", "instance"}

each_rule = pytest.mark.parametrize(
    "rule", [pytest.param(rule, id=rule.get("alert") or rule["record"]) for rule in RULES]
)
each_alert = pytest.mark.parametrize("name", ALERTS)


@pytest.fixture(scope="session")
def promtool() -> str:
    path = shutil.which("promtool")
    if path is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus): the alert rules are not run")
    return path


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "rules", "alerts.yml"],
        ["check", "config", "--syntax-only", "prometheus.yml"],
        ["test", "rules", "alerts_test.yml"],
        ["test", "rules", "alerts_long_test.yml"],
    ],
    ids=" ".join,
)
def test_promtool_accepts_the_rules_and_their_unit_tests_pass(promtool: str, arguments: list[str]) -> None:
    done = subprocess.run([promtool, *arguments], cwd=FOLDER, capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_unit_test_in_which_it_stays_quiet_and_one_in_which_it_fires() -> None:
    fires: set[str] = set()
    stays_quiet: set[str] = set()
    for path in FOLDER.glob("alerts*_test.yml"):
        for case in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]:
            for check in case["alert_rule_test"]:
                (fires if check["exp_alerts"] else stays_quiet).add(check["alertname"])
    assert fires == set(ALERTS)
    assert stays_quiet == set(ALERTS)


def test_the_prometheus_rule_of_kubernetes_is_the_same_rules() -> None:
    committed = (ROOT / "k8s" / "base" / "prometheus-rule.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(committed)["spec"]["groups"] == GROUPS
    written = runpy.run_path(str(FOLDER / "rule_object.py"))["rule_object"]()
    assert committed == written, "run: python deploy/prometheus/rule_object.py"


@each_rule
def test_a_rule_uses_metrics_and_labels_that_exist(rule: dict[str, Any]) -> None:
    known = {**{name: set(labels) for name, labels in metric_labels().items()}, **OF_OTHERS}
    known.update({name: set() for name in RECORDED})
    uses = promql.read(rule["expr"])
    assert uses.metrics
    assert uses.metrics <= set(known)
    for metric, label in uses.matched_labels:
        assert label in known[metric] | TARGET_LABELS, f"{metric}{{{label}}}"
    labels = set().union(*(known[metric] for metric in uses.metrics)) | TARGET_LABELS
    assert uses.grouping_labels <= labels


@each_alert
def test_an_alert_watches_what_the_code_reports(name: str) -> None:
    """A metric that is defined and never touched would keep its alert quiet for ever."""
    defined = (ROOT / "app" / "observability" / "metrics.py").read_text(encoding="utf-8")
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "app").rglob("*.py"))
    for metric in re.findall(r"\bgate_[a-z_]+", promql_names(name)):
        base = re.sub(r"_(total|bucket|sum|count)$", "", metric)
        if base == exposition.SNAPSHOT_AGE:
            continue  # reckoned from the time of the confirmation when /metrics is asked
        [variable] = re.findall(rf'^([A-Z_]+) = \w+\(\s*"{base}"', defined, re.MULTILINE)
        uses = re.findall(rf"\b{variable}\.(?:inc|set|observe|labels)\b", code)
        assert uses, f"{metric} is never reported"


def promql_names(alert: str) -> str:
    """The metrics of an alert, those behind recorded ones included."""
    names = promql.read(ALERTS[alert]["expr"]).metrics
    behind = [promql.read(rule["expr"]).metrics for rule in RULES if rule.get("record") in names]
    return " ".join(sorted(names.union(*behind)))


@each_rule
def test_a_rule_keeps_environments_apart(rule: dict[str, Any]) -> None:
    """One Prometheus may watch staging and production: neither may hide or wake the other."""
    for grouping in re.findall(r"\b(?:sum|min|max|group|count)\b\s*(\([^)]*\))?", rule["expr"].replace(" by ", " ")):
        assert "namespace" in grouping, rule["expr"]


@each_alert
def test_an_alert_says_how_urgent_it_is_and_where_its_runbook_is(name: str) -> None:
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in {"page", "ticket", "notice"}
    assert alert["annotations"].keys() == {"summary", "description", "runbook"}
    assert alert["annotations"]["runbook"] == f"docs/operations.md#{name.lower()}"


def test_the_runbook_has_a_chapter_for_every_alert_and_none_for_another() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    chapters = re.findall(r"^#+ (Gate\w+)$", text, re.MULTILINE)
    assert sorted(chapters) == sorted(ALERTS)
    for chapter in re.split(r"^#+ Gate\w+$", text, flags=re.MULTILINE)[1:]:
        body = chapter.partition("\n## ")[0]
        assert len(body.split()) >= 25, "a chapter says what it means, where to look and what to do"


def test_kinds_of_flush_failure_in_the_rules_are_those_of_the_service() -> None:
    for rule in RULES:
        for kinds in re.findall(r'kind=~?"([^"]+)"', rule["expr"]):
            assert set(kinds.split("|")) <= set(get_args(FlushFailure))


def test_routes_in_the_rules_are_those_of_the_service() -> None:
    for rule in RULES:
        for route in re.findall(r'route="([^"]+)"', rule["expr"]):
            assert route in routes()


def _threshold(name: str) -> float:
    return float(ALERTS[name]["expr"].rpartition(" ")[2])


def test_thresholds_lie_inside_the_limits_of_the_service() -> None:
    assert (
        default_setting("snapshot_poll_seconds") * 2
        < _threshold("GateSnapshotStale")
        < default_setting("lease_seconds")
    )
    assert _threshold("GateQueueFills") < default_setting("flush_queue_limit") / 2
    assert _threshold("GatePartitionsShort") < default_setting("partitions_ahead_months")
