"""Entity tags that are version numbers: If-Match guards a change, If-None-Match spares an answer (RFC 9110, 13.1)."""

from __future__ import annotations

import re

from fastapi import Request

from app.api.problems import FieldError, Problem, ProblemType

_STRONG_TAG = re.compile(r'"(0|[1-9][0-9]{0,17})"').fullmatch
_ANY_TAG = re.compile(r'(?:W/)?"([\x21\x23-\x7e\x80-\xff]*)"')

IF_MATCH_PARAMETER = {
    "name": "If-Match",
    "in": "header",
    "description": 'The ETag that the change was made from, such as `"3"`.',
    "schema": {"type": "string", "examples": ['"3"']},
}
IF_NONE_MATCH_PARAMETER = {
    "name": "If-None-Match",
    "in": "header",
    "description": "ETags that the caller holds; a 304 says that one of them is current.",
    "schema": {"type": "string", "examples": ['"3"']},
}
ETAG_HEADER = {"ETag": {"description": "Names this version in If-Match.", "schema": {"type": "string"}}}


def etag(number: int) -> str:
    """The entity tag of a version or revision."""
    return f'"{number}"'


def expected_version(request: Request) -> int | None:
    """The version that If-Match names; None where there is no If-Match, or it says `*`.

    Raises:
        Problem: precondition-failed for a tag that can be no current one, invalid-request for several tags.
    """
    given = request.headers.getlist("if-match")
    if not given or (len(given) == 1 and given[0].strip() == "*"):
        return None
    if len(given) > 1 or "," in given[0]:
        fault = FieldError(pointer="#/header/If-Match", detail="must name one version")
        raise Problem(ProblemType.INVALID_REQUEST, errors=[fault])
    match = _STRONG_TAG(given[0].strip())
    if match is None:
        raise Problem(ProblemType.PRECONDITION_FAILED)
    return int(match[1])


def required_version(request: Request) -> int:
    """The version that If-Match names.

    Raises:
        Problem: precondition-required where it names none, besides those of `expected_version`.
    """
    version = expected_version(request)
    if version is None:
        raise Problem(ProblemType.PRECONDITION_REQUIRED)
    return version


def is_current(request: Request, number: int) -> bool:
    """Whether If-None-Match names this version, so that the answer is a 304. Compared weakly, as it says."""
    given = request.headers.get("if-none-match")
    if given is None:
        return False
    return given.strip() == "*" or str(number) in _ANY_TAG.findall(given)
