"""The Grafana dashboard: whole, and about metrics that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.shipping import promql
from tests.shipping.service_facts import ROOT, metric_labels
from tests.shipping.test_alerts import RECORDED

DASHBOARD: dict[str, Any] = json.loads(
    (ROOT / "deploy" / "grafana" / "dashboards" / "channel-gate.json").read_text(encoding="utf-8")
)
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
QUERIES = [
    pytest.param(target["expr"], target["legendFormat"], id=f"{panel['title']}-{target['refId']}")
    for panel in PANELS
    for target in panel.get("targets", [])
]
EXPRESSIONS = [query.values[0] for query in QUERIES] + [a["expr"] for a in DASHBOARD["annotations"]["list"]]
TARGET_LABELS = {"namespace", "instance"}


def _filled_in(expression: object) -> str:
    """As Grafana fills in its variables."""
    text = str(expression).replace("$__rate_interval", "1m").replace("$__range", "6h")
    return text.replace("$namespace", ".*").replace("$channel", ".*")


@pytest.mark.parametrize(("expression", "legend"), QUERIES)
def test_a_query_uses_metrics_and_labels_that_exist(expression: str, legend: str) -> None:
    known = {name: set(labels) for name, labels in metric_labels().items()} | {name: set() for name in RECORDED}
    uses = promql.read(_filled_in(expression))
    assert uses.metrics
    assert uses.metrics <= set(known)
    for metric, label in uses.matched_labels:
        assert label in known[metric] | TARGET_LABELS, f"{metric}{{{label}}}"
    labels = set().union(*(known[metric] for metric in uses.metrics)) | TARGET_LABELS
    assert uses.grouping_labels <= labels
    assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= labels


def test_every_metric_of_decisions_flushes_and_rollout_is_shown() -> None:
    """Left out: what a histogram's own panel already shows, and the raw form of the snapshot's age."""
    shown = set().union(*(promql.read(_filled_in(expression)).metrics for expression in EXPRESSIONS))
    silent = {name for name in metric_labels() if not name.endswith(("_bucket", "_sum", "_count"))} - shown
    assert silent == {"gate_snapshot_confirmed_timestamp_seconds"}


def test_promtool_reads_every_query(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus): the queries are not parsed")
    rules = [{"record": f"dashboard:query:{n}", "expr": _filled_in(e)} for n, e in enumerate(EXPRESSIONS)]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}), encoding="utf-8")
    done = subprocess.run([promtool, "check", "rules", path], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_query_follows_the_chosen_namespace() -> None:
    for expression in EXPRESSIONS:
        for metric, matchers in re.findall(r"\b(gate[_:][\w:]+)(\{[^}]*\})?", expression):
            assert 'namespace=~"$namespace"' in matchers, f"{metric} in {expression}"


def test_panels_have_ids_of_their_own_a_text_and_a_place_of_their_own() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    for panel in PANELS:
        assert panel["title"]
        assert panel["type"] == "row" or panel["description"]
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
    for one, other in combinations(PANELS, 2):
        a, b = one["gridPos"], other["gridPos"]
        apart_across = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        apart_down = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert apart_across or apart_down, (one["title"], other["title"])


def test_the_variables_that_queries_use_are_defined() -> None:
    defined = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]+)\b", json.dumps(DASHBOARD)))
    assert used <= defined | {"all"}
    assert {"datasource", "namespace", "channel"} == defined
