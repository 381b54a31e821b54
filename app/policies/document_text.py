"""Reads the text of a policy: JSON, or YAML without the surprises that a rule table cannot afford.

Refused in both: a key that stands twice in one mapping (the last would win unseen), and text that PostgreSQL cannot
hold. YAML is read by the core schema of YAML 1.2: `NO` is a country and not `false`, `010` is ten, a date is text;
anchors, aliases and tags are refused. A fractional number stays exact.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

import yaml

MAX_DEPTH = 40
MAX_YAML_BYTES = 256 * 1024
"""YAML is read in pure Python, which is slow: what is longer is sent as JSON."""
MAX_PLACES = 40


class DocumentTextError(Exception):
    """The text is no JSON or YAML that a policy may be written in. Says what and where, and quotes nothing."""


def parse_json(text: bytes | str) -> object:
    """The value of a JSON text. Fractions are Decimal.

    Raises:
        DocumentTextError: where the text is no JSON, or holds what is refused.
    """
    try:
        value = json.loads(
            text, parse_float=_decimal, parse_constant=_refuse_constant, object_pairs_hook=_object_without_repeats
        )
    except json.JSONDecodeError as error:
        raise DocumentTextError(f"is not valid JSON (line {error.lineno}, column {error.colno})") from None
    except UnicodeDecodeError:
        raise DocumentTextError("is not UTF-8 text") from None
    except RecursionError:
        raise DocumentTextError("is nested too deeply") from None
    except ValueError:  # an integer of thousands of digits
        raise DocumentTextError("holds a number that is out of range") from None
    _check(value, 0)
    return value


def parse_yaml(text: bytes | str) -> object:
    """The value of a YAML text of one document. Fractions are Decimal.

    Raises:
        DocumentTextError: where the text is no YAML, or holds what is refused.
    """
    if len(text) > MAX_YAML_BYTES:
        raise DocumentTextError(f"is longer than {MAX_YAML_BYTES} bytes of YAML may be; write it as JSON")
    try:
        value = yaml.load(text, Loader=_PolicyLoader)  # noqa: S506 (a subclass of SafeLoader that knows less)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1})"
        raise DocumentTextError(f"is not valid YAML{where}") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise DocumentTextError("is not UTF-8 text that YAML allows") from None
    except RecursionError:
        raise DocumentTextError("is nested too deeply") from None
    except ValueError:
        raise DocumentTextError("holds a number that is out of range") from None
    _check(value, 0)
    return value


def _object_without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise DocumentTextError("names a key twice in one object")
    return mapping


def _decimal(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise DocumentTextError("holds a number that is out of range") from None
    if not number.is_finite() or abs(number.adjusted()) > MAX_PLACES:
        raise DocumentTextError("holds a number that is out of range")
    return number


def _refuse_constant(_: str) -> NoReturn:
    raise DocumentTextError("holds a number that is not finite")


def _check(value: object, depth: int) -> None:
    """Refuse what canonical JSON in PostgreSQL cannot hold."""
    if depth > MAX_DEPTH:
        raise DocumentTextError("is nested too deeply")
    if isinstance(value, dict):
        for key, item in value.items():
            _check(key, depth)
            _check(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check(item, depth + 1)
    elif isinstance(value, str) and _UNSTORABLE.search(value):
        raise DocumentTextError("holds a character that cannot be stored: U+0000 or half of a surrogate pair")


_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class _PolicyLoader(yaml.SafeLoader):
    """YAML 1.2's core schema, without anchors, aliases and tags."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (as PyYAML declares it)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs leave it out
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise yaml.composer.ComposerError(None, None, "anchors and aliases are refused", event.start_mark)
        if getattr(event, "tag", None) is not None:
            raise yaml.composer.ComposerError(None, None, "tags are refused", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(keys) != len(node.value):
            raise yaml.constructor.ConstructorError(None, None, "a key must be a scalar", node.start_mark)
        if len(set(keys)) != len(keys):
            raise yaml.constructor.ConstructorError(None, None, "a key stands twice", node.start_mark)
        return super().construct_mapping(node, deep=deep)


def _integer(_: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(node.value)


def _fraction(_: yaml.SafeLoader, node: yaml.ScalarNode) -> Decimal:
    return _decimal(node.value)


_PolicyLoader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_PolicyLoader.add_implicit_resolver(
    "tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]
)
_PolicyLoader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789"))
_PolicyLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$"),
    list("-+0123456789."),
)
_PolicyLoader.add_constructor("tag:yaml.org,2002:int", _integer)
_PolicyLoader.add_constructor("tag:yaml.org,2002:float", _fraction)
