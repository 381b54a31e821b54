"""Writes a policy as YAML that every reader takes for the same document, whatever version of YAML it knows."""

from __future__ import annotations

import re
from typing import Any

import yaml

from app.domain.canonical import Json

_WIDTH = 120


def dump_yaml(document: dict[str, Json]) -> str:
    """The document as YAML, keys in their order, no anchors. `parse_yaml` gives an equal document back.

    Text that YAML 1.1 or 1.2 would read as something else (`NO`, `1e3`, `010`, `2026-01-31`) is quoted.
    """
    return str(
        yaml.dump(document, Dumper=_PolicyDumper, allow_unicode=True, sort_keys=False, width=_WIDTH, line_break="\n")
    )


class _PolicyDumper(yaml.SafeDumper):
    """PyYAML knows YAML 1.1; what the core schema of 1.2 reads as a number beyond that is quoted as well."""

    yaml_implicit_resolvers = {key: list(found) for key, found in yaml.SafeDumper.yaml_implicit_resolvers.items()}  # noqa: RUF012 (as PyYAML declares it)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if _FOLDED.search(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_FOLDED = re.compile("[\x85\u2028\u2029]")
"""Line breaks of YAML 1.1 that only double quotes keep."""

_PolicyDumper.add_representer(str, _text)
_PolicyDumper.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$"),
    list("-+0123456789."),
)
