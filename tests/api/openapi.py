"""The OpenAPI document of the code, without a running service."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from app.api.factory import make_app
from app.settings import Settings

_NOWHERE = "postgresql://nobody@127.0.0.1:1/none"

DOCUMENT: dict[str, Any] = make_app(Settings(database_url=_NOWHERE, governance_database_url=_NOWHERE)).api.openapi()


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and description of each operation."""
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation
