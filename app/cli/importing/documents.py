"""YAML or JSON with the line of each value, read strictly: one meaning a text, no key twice, nothing executed.

Unlike YAML 1.1, `no` and `on` are text here (a country code is no boolean), and a fraction stays the text it was.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import yaml

Path = tuple[int | str, ...]

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})", re.ASCII)
_MAX_DEPTH = 20
_MAX_CHARACTERS = 1_000_000


class DocumentError(Exception):
    """A text that is no such document; says the line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """A document's value and the line (from 1) that each of its parts stands on."""

    value: object
    lines: Mapping[Path, int]

    def line(self, path: Path) -> int:
        """The line of the innermost part of `path` that is there."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def read_document(text: str) -> Located:
    """The document that `text` holds.

    Raises:
        DocumentError: where it is not well formed, repeats a key, uses an anchor or a tag, or is too large or deep.
    """
    if len(text) > _MAX_CHARACTERS:
        raise DocumentError(f"line 1: must have at most {_MAX_CHARACTERS} characters")
    try:
        _refuse_references(text)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = _line(error.problem_mark or error.context_mark)
        raise DocumentError(f"line {line}: {error.problem or 'is not YAML or JSON'}") from None
    except yaml.YAMLError:
        raise DocumentError("line 1: holds a character that YAML does not know") from None
    except (RecursionError, ValueError):
        raise DocumentError("line 1: is not YAML or JSON") from None
    if root is None:
        raise DocumentError("line 1: is empty")
    lines: dict[Path, int] = {}
    return Located(value=_value(root, (), lines), lines=lines)


def _refuse_references(text: str) -> None:
    """Anchors let a small text mean a huge document, tags let it mean anything: neither is taken."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = _line(event.start_mark)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise DocumentError(f"line {line}: is nested too deeply")
        if getattr(event, "anchor", None) is not None:
            raise DocumentError(f"line {line}: anchors and aliases are not taken")
        if getattr(event, "tag", None) is not None:
            raise DocumentError(f"line {line}: tags are not taken")


def _line(mark: object) -> int:
    """Counts from 1. `mark` is PyYAML's, of which the C parser has a type of its own; None: nowhere."""
    return int(getattr(mark, "line", 0)) + 1


def _value(node: yaml.Node, path: Path, lines: dict[Path, int]) -> object:
    lines.setdefault(path, _line(node.start_mark))
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return tuple(_value(item, (*path, position), lines) for position, item in enumerate(node.value))
    found: dict[str, object] = {}
    for key, item in node.value:
        key_line = _line(key.start_mark)
        if not isinstance(key, yaml.ScalarNode):
            raise DocumentError(f"line {key_line}: a key must be text")
        name = str(key.value)
        if name in found:
            raise DocumentError(f"line {key_line}: {name}: is there twice")
        lines[(*path, name)] = key_line
        found[name] = _value(item, (*path, name), lines)
    return found


def _scalar(node: yaml.ScalarNode) -> object:
    text = str(node.value)
    if node.style is not None:  # quoted, or a block of text
        return text
    if text in {"", "null", "~"}:
        return None
    if text in {"true", "false"}:
        return text == "true"
    return int(text) if _INTEGER.fullmatch(text) else text
