"""The schema for editors takes what the reader takes, and refuses what it refuses by its form."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from app.cli import build_app
from app.domain.canonical import canonical_bytes, storable, without_floats
from app.domain.compiled import CompiledPolicy
from app.domain.compiler import compile_policy
from app.domain.errors import PolicyError
from app.policies.checking import checked_policy
from app.policies.defaults import default_policy
from app.policies.document_schema import policy_schema
from app.policies.document_text import parse_json, parse_yaml
from app.policies.document_yaml import dump_yaml
from tests.domain.test_lint import policies

DOCS = Path(__file__).parents[2] / "docs"
SCHEMA = DOCS / "policy.schema.json"
VALIDATOR = jsonschema.Draft202012Validator(policy_schema())
EXAMPLES = sorted((DOCS / "examples").glob("*.policy.yaml"))


def valid(document: Any) -> bool:
    plain: Any = without_floats(document)
    return bool(VALIDATOR.is_valid(plain))


def test_the_schema_is_one_and_the_file_in_the_docs_is_current() -> None:
    jsonschema.Draft202012Validator.check_schema(policy_schema())
    printed = CliRunner().invoke(build_app(), ["policy", "schema"])
    assert printed.exit_code == 0
    assert SCHEMA.read_text(encoding="utf-8") == printed.output


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_the_examples_are_valid_and_decide_their_cases(file: Path) -> None:
    document = parse_yaml(file.read_bytes())
    assert valid(document)
    assert len(checked_policy(document).document.cases) >= 6


def test_the_default_policy_is_valid_with_a_hint_where_its_schema_is() -> None:
    document = default_policy() | {"$schema": "policy.schema.json"}
    assert valid(document)
    assert compile_policy(document).document == compile_policy(default_policy()).document


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(policies())
def test_every_policy_that_compiles_is_valid_and_survives_both_texts(policy: CompiledPolicy) -> None:
    document = policy.document.document()
    assert valid(document)
    for again in (parse_yaml(dump_yaml(document)), parse_json(canonical_bytes(document))):
        assert compile_policy(again).document == policy.document


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=12), st.text(max_size=40) | st.integers(-(10**18), 10**18)))
def test_yaml_gives_every_text_back(values: dict[str, Any]) -> None:
    values = {key: value for key, value in values.items() if storable(key) and storable(value)}
    document: Any = {"values": values, "twice": [values, values]}
    assert parse_yaml(dump_yaml(document)) == document


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every object in a document whose keys are columns, not data."""
    if isinstance(value, dict):
        if not path or path[-1] not in _DATA:
            yield path
        for key, item in value.items():
            if key not in {"application", "facts"}:
                yield from _places(item, (*path, key))
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield from _places(item, (*path, position))


_DATA = {"products", "thresholds", "tier_cap", "income_multiple", "dti_max_pct", "expected", "effect"}
FULL = default_policy()
FULL["attributes"] = [{"name": "pay_frequency", "kind": "choice", "choices": ["weekly", "monthly"]}]
FULL["cases"] = FULL["cases"][-6:-3]
PLACES = list(_places(FULL))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(PLACES), st.sampled_from(("add", "rename")), st.data())
def test_an_unknown_or_misspelt_column_is_refused_by_both(
    path: tuple[Any, ...], change: str, data: st.DataObject
) -> None:
    document = json.loads(json.dumps(FULL))
    place = document
    for step in path:
        place = place[step]
    if change == "add" or not place:
        place["threshhold"] = 1
    else:
        key = data.draw(st.sampled_from(sorted(place)))
        place[f"{key}_"] = place.pop(key)
    with pytest.raises(PolicyError):
        checked_policy(document)
    assert not valid(document)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("rules", 0, "op"), "at_least"),  # on a boolean field
        (("rules", 2, "effect"), "pass"),
        (("rules", 2, "if_missing"), None),
        (("rules", 2, "missing_reason"), None),
        (("rules", 2, "field"), "bureau.mood"),
        (("rules", 2, "thresholds", "prime"), [1]),
        (("rules", 3, "thresholds", "prime"), False),
        (("rules", 2, "reason", "en"), "  "),
        (("rules", 2, "priority"), -1),
        (("products", "small_business", "rounding_unit"), 0),
        (("products", "small_business", "mandatory"), ["person.open_accepts"]),
        (("ceiling", "reasons", "dti"), None),
        (("ceiling", "dti_max_pct", "prime"), "50.001"),
        (("income", "haircut_pct"), {"none": None, "stated": 101}),
        (("currency",), "cny"),
        (("tiers",), []),
        (("attributes", 0, "choices"), []),
        (("cases", 0, "channel"), {"state": "proposed"}),
        (("cases", 0, "expected"), {}),
    ],
)
def test_a_value_of_the_wrong_form_is_refused_by_both(path: tuple[Any, ...], value: Any) -> None:
    document = json.loads(json.dumps(FULL))
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(PolicyError):
        checked_policy(document)
    assert not valid(document)
