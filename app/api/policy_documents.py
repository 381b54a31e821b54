"""Whole policy documents as bodies: what a request may carry, and a version as YAML to send back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from fastapi import Request
from fastapi.responses import Response

from app.api.problems import FieldError, Problem, ProblemType
from app.domain.compiled import CompiledPolicy
from app.policies.checking import checked_policy
from app.policies.document_text import DocumentTextError, parse_json, parse_yaml
from app.policies.document_yaml import dump_yaml
from app.policies.store import StoredPolicy

JSON, YAML = "application/json", "application/yaml"
DOCUMENT_LIMIT_BYTES = 1024 * 1024
DOCUMENT_PROBLEMS = (ProblemType.INVALID_POLICY, ProblemType.BODY_TOO_LARGE, ProblemType.UNSUPPORTED_MEDIA_TYPE)
_BODY_REF = "#/components/schemas/PolicyBody"
DOCUMENT_BODY: dict[str, Any] = {
    "required": True,
    "content": {JSON: {"schema": {"$ref": _BODY_REF}}, YAML: {"schema": {"$ref": _BODY_REF}}},
}
_PARSERS = {JSON: parse_json, YAML: parse_yaml, "application/x-yaml": parse_yaml, "text/yaml": parse_yaml}


async def compiled_body(
    request: Request, *, check: Callable[[object], CompiledPolicy] = checked_policy
) -> CompiledPolicy:
    """The policy of a body in JSON or YAML, after `check`, which compiles it.

    Raises:
        Problem: unsupported-media-type, or invalid-policy where it is no document at all.
        PolicyError: with every fault of the policy.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    parse = _PARSERS.get(media_type)
    if parse is None:
        raise Problem(ProblemType.UNSUPPORTED_MEDIA_TYPE, f"Send {JSON} or {YAML}.")
    body = await request.body()
    try:
        # Off the event loop: a large document takes long, and decisions should not wait for it.
        return await asyncio.to_thread(lambda: check(parse(body)))
    except DocumentTextError as error:
        fault = FieldError(pointer="", detail=str(error), row="policy", column="")
        raise Problem(ProblemType.INVALID_POLICY, errors=[fault]) from None


async def yaml_answer(stored: StoredPolicy) -> Response:
    """The document of a version alone, as it may be edited and sent back. Its ETag is on the JSON answer."""
    text = await asyncio.to_thread(dump_yaml, stored.document())
    headers = {
        "Content-Location": f"/v1/policies/{stored.version}",
        "Cache-Control": "private, no-cache",
        "Vary": "Accept",
    }
    return Response(text, media_type=YAML, headers=headers)
