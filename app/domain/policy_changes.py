"""What changes a policy, and what a change of one comes to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from app.domain.canonical import Json
from app.domain.errors import PolicyError, PolicyProblem
from app.domain.policy import PolicyDocument, threshold_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that changed between two documents: where, and its JSON forms (None: absent or null)."""

    path: str
    before: Json
    after: Json

    def __str__(self) -> str:
        if self.path.startswith(_CASE):
            if self.before is None and isinstance(self.after, dict):
                return f"{self.path}: added"
            if self.after is None and isinstance(self.before, dict):
                return f"{self.path}: removed"
        return f"{self.path}: {_shown(self.before)} -> {_shown(self.after)}"


def with_threshold(document: PolicyDocument, code: str, tier: str, value: object) -> PolicyDocument:
    """The same policy with one threshold of one rule changed for one tier; compile it to check the value.

    Raises:
        PolicyError: where there is no such rule or tier, or `value` is no JSON scalar or list of them.
    """
    if code not in {rule.code for rule in document.rules}:
        raise PolicyError((PolicyProblem(row=code, column="code", detail="there is no such rule"),))
    if tier not in {known.code for known in document.tiers}:
        raise PolicyError((PolicyProblem(row=code, column=f"thresholds.{tier}", detail="there is no such tier"),))
    try:
        threshold = None if value is None else threshold_of(value)
    except (TypeError, ValueError) as error:
        raise PolicyError((PolicyProblem(row=code, column=f"thresholds.{tier}", detail=str(error)),)) from None
    rules = tuple(
        replace(rule, thresholds={**rule.thresholds, tier: threshold}) if rule.code == code else rule
        for rule in document.rules
    )
    return replace(document, rules=rules)


def differences(before: PolicyDocument, after: PolicyDocument) -> tuple[Difference, ...]:
    """Every change from `before` to `after`, in the order of the document. Rows are matched by their code."""
    fields = {rule.code: rule.field for rule in (*after.rules, *before.rules)}
    return tuple(
        Difference(path=_readable(path, fields), before=old, after=new)
        for path, old, new in _compare((), _by_code(before.document()), _by_code(after.document()))
    )


_KEYED_LISTS = {"rules": "code", "tiers": "code", "attributes": "name", "cases": "name"}
_CASE = 'case "'


def _by_code(document: dict[str, Json]) -> dict[str, Json]:
    """The document with its lists of named rows as mappings, so that rows are compared with their own kind."""
    keyed = dict(document)
    for section, key in _KEYED_LISTS.items():
        rows = document[section]
        if isinstance(rows, list):
            named = {str(row.get(key)): row for row in rows if isinstance(row, dict)}
            if len(named) == len(rows):
                keyed[section] = dict[str, Json](named)
    return keyed


def _compare(path: tuple[str, ...], before: Json, after: Json) -> Iterator[tuple[tuple[str, ...], Json, Json]]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            yield from _compare((*path, key), before.get(key), after.get(key))
    elif before != after or type(before) is not type(after):
        yield path, before, after


def _readable(path: tuple[str, ...], fields: Mapping[str, str]) -> str:
    match path:
        case ("rules", code, "thresholds", tier):
            return f"{code} {fields[code]} for {tier}"
        case ("rules", code, *column):
            return " ".join(part for part in (code, ".".join(column)) if part)
        case ("cases", name, *column):
            return " ".join(part for part in (f'{_CASE}{name}"', ".".join(column)) if part)
        case _:
            return ".".join(path)


def _shown(value: Json) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case list():
            return ", ".join(_shown(item) for item in value) or "none"
        case dict():
            return "{" + ", ".join(f"{key}: {_shown(item)}" for key, item in value.items()) + "}"
        case _:
            return str(value)
