"""Policies as text: exact numbers, and none of the surprises of YAML."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest

from app.policies.defaults import default_policy
from app.policies.document_text import DocumentTextError, parse_json, parse_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("NO", "NO"),
        ("yes", "yes"),
        ("010", 10),
        ("0x1f", "0x1f"),
        ("12:30", "12:30"),
        ("1_000", "1_000"),
        ("2026-01-31", "2026-01-31"),
        ("true", True),
        ("~", None),
        ("", None),
        ("null", None),
        ("-5", -5),
        ("1.50", Decimal("1.50")),
        ("1e3", Decimal("1e3")),
        (".inf", ".inf"),
        ("'620'", "620"),
        ("优质", "优质"),
    ],
)
def test_a_yaml_scalar_means_what_it_looks_like(text: str, value: object) -> None:
    parsed = parse_yaml(f"key: {text}\n")
    assert parsed == {"key": value}
    assert isinstance(parsed, dict)
    assert type(parsed["key"]) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "a: &x 1\nb: *x",
        "a: 1\na: 2",
        "a: !!python/object:os.system 1",
        "a: !!int '5'",
        "a: 'open",
        "? [1]\n: 2",
        "a: 1e99999",
        "--- 1\n--- 2",
        '"\\0"',
        "[" * 3000,
        "a: " + "9" * 5000,
        "\ud800",
        "a: " + "x" * 300_000,
    ],
)
def test_yaml_that_a_rule_table_cannot_afford_is_refused(text: str) -> None:
    with pytest.raises(DocumentTextError):
        parse_yaml(text.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize(
    "text",
    [
        b'{"a": 1, "a": 2}',
        b'{"a": {"b": 1, "b": 1}}',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": 1e9999}',
        b'{"a": "\\u0000"}',
        b'{"\\u0000": 1}',
        b'{"a": "\\ud800"}',
        b"\xff",
        b"[" * 100_000,
        b"[" * 60 + b"]" * 60,
        b"1" * 5000,
        b"{",
        b"",
    ],
)
def test_json_that_cannot_be_stored_exactly_is_refused(text: bytes) -> None:
    with pytest.raises(DocumentTextError):
        parse_json(text)


def test_a_fraction_stays_exact() -> None:
    assert parse_json(b'{"a": 49.99999999999999999}') == {"a": Decimal("49.99999999999999999")}


def test_a_fault_is_placed_and_nothing_of_the_text_is_quoted() -> None:
    for parse, text in ((parse_json, '{"secret": oops}'), (parse_yaml, "secret: [oops")):
        parser: Callable[[str], object] = parse
        with pytest.raises(DocumentTextError) as refused:
            parser(text)
        assert "line" in str(refused.value)
        assert "secret" not in str(refused.value)
        assert "oops" not in str(refused.value)


def test_the_default_policy_is_the_same_in_both_forms() -> None:
    import yaml

    document = default_policy()
    assert parse_yaml(yaml.safe_dump(document, allow_unicode=True)) == document
