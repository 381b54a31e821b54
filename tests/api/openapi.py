"""The OpenAPI document of the code, without a running service."""

from __future__ import annotations

from typing import Any

from app.api.factory import make_app
from app.settings import Settings

_NOWHERE = "postgresql://nobody@127.0.0.1:1/none"

DOCUMENT: dict[str, Any] = make_app(Settings(database_url=_NOWHERE, governance_database_url=_NOWHERE)).api.openapi()


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    """Method, path and description of each operation."""
    return [
        (method.upper(), path, operation)
        for path, item in DOCUMENT["paths"].items()
        for method, operation in item.items()
    ]
