"""Puts examples back as they were written: FastAPI drops every null from its OpenAPI document, also inside of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fastapi.routing import APIRoute
from starlette.routing import BaseRoute


def restore_examples(document: dict[str, Any], routes: Iterable[BaseRoute]) -> None:
    """Give `document`, made from `routes`, the examples of their responses and request bodies, nulls included."""
    for route in routes:
        if not isinstance(route, APIRoute) or not route.include_in_schema:
            continue
        extra = route.openapi_extra or {}
        for method in route.methods or ():
            operation = document["paths"][route.path_format][method.lower()]
            for status, response in route.responses.items():
                _restore(operation["responses"].get(str(status), {}), response)
            _restore(operation.get("requestBody", {}), extra.get("requestBody", {}))


def _restore(target: Mapping[str, Any], source: Mapping[str, Any]) -> None:
    for media_type, written in source.get("content", {}).items():
        shown = target.get("content", {}).get(media_type)
        if shown is not None:
            shown.update({key: written[key] for key in ("example", "examples") if key in written})
