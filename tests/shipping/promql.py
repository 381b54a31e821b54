"""Finds the metrics and labels that a PromQL expression uses. promtool judges the syntax; this only reads names."""

from __future__ import annotations

import re
from dataclasses import dataclass

_WORDS = frozenset(
    (
        *("and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right", "offset", "bool"),
        *("sum", "min", "max", "avg", "group", "count", "topk", "absent", "changes", "rate", "increase"),
        *("histogram_quantile", "max_over_time"),
    )
)
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
_SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\s*\{([^}]*)\}")
_MATCHER = re.compile(r"\s*([a-zA-Z_]\w*)\s*(?:=~|!~|!=|=)")
_NAME = re.compile(r"(?<![\w.])[a-zA-Z_:][\w:]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Uses:
    """What an expression names."""

    metrics: frozenset[str]
    matched_labels: frozenset[tuple[str, str]]
    """(metric, label) of every matcher."""
    grouping_labels: frozenset[str]


def read(expression: str) -> Uses:
    """The names in one expression. A word that is neither PromQL nor a label is taken for a metric."""
    blank = _STRING.sub('""', expression)
    grouping = frozenset(
        label.strip() for labels in _GROUPING.findall(blank) for label in labels.split(",") if label.strip()
    )
    matched = frozenset(
        (metric, label)
        for metric, matchers in _SELECTOR.findall(blank)
        for label in _MATCHER.findall(",".join(["", matchers]).replace(",", " "))
    )
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", _GROUPING.sub(" ", blank))
    bare = re.sub(r"\boffset\s+\w+", " ", bare)
    names = frozenset(name for name in _NAME.findall(bare) if name not in _WORDS)
    return Uses(metrics=names, matched_labels=matched, grouping_labels=grouping)
