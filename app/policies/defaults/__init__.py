"""The policies that the gate comes with, as documents."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any


def default_policy() -> dict[str, Any]:
    """A fresh copy of the default policy for loans in CNY."""
    document = json.loads(files(__name__).joinpath("cny.json").read_text(encoding="utf-8"))
    if not isinstance(document, dict):
        raise TypeError("a policy document is an object")
    return document
