"""Writes the PrometheusRule of Kubernetes from alerts.yml: `python deploy/prometheus/rule_object.py`."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).resolve().parent
RULES = _HERE / "alerts.yml"
RULE_OBJECT = _HERE.parents[1] / "k8s" / "base" / "prometheus-rule.yaml"

_HEAD = """\
# Written by deploy/prometheus/rule_object.py from deploy/prometheus/alerts.yml: change that file, then run the script.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: channel-gate
spec:
"""


def rule_object() -> str:
    """The text of the PrometheusRule: the same groups, indented under `spec`, without the file's own comments."""
    lines = RULES.read_text(encoding="utf-8").splitlines()
    body = [f"  {line}" if line else "" for line in lines if not line.lstrip().startswith("#")]
    return _HEAD + "\n".join(body) + "\n"


if __name__ == "__main__":
    RULE_OBJECT.write_text(rule_object(), encoding="utf-8")
