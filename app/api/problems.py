"""Problems: every answer that is not what was asked for, as RFC 9457 problem+json.

The table below is all of them. No problem carries a value that the caller sent: pointers and rules, never contents.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response
from starlette.types import Send

PROBLEM_MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:channel-gate:problem:"
INSTANCE_PREFIX = "urn:channel-gate:request:"
"""`instance` names the request by the id that its log lines and the `X-Request-Id` header of the answer carry."""


class ProblemType(Enum):
    """Slug, HTTP status, title and when it occurs."""

    BAD_REQUEST = ("bad-request", 400, "The request cannot be read", "The body or a header cannot be decoded at all.")
    UNAUTHENTICATED = (
        "unauthenticated",
        401,
        "No valid credential",
        "The API key or bearer token is missing, unknown, expired or revoked.",
    )
    FORBIDDEN = ("forbidden", 403, "Not allowed", "The credential is valid and lacks a role or originator.")
    NOT_FOUND = ("not-found", 404, "Not found", "There is no such resource, or it is another originator's.")
    METHOD_NOT_ALLOWED = ("method-not-allowed", 405, "Method not allowed", "The resource does not know this method.")
    NOT_ACCEPTABLE = ("not-acceptable", 406, "Not acceptable", "No representation fits the Accept header.")
    APPLICATION_CONFLICT = (
        "application-conflict",
        409,
        "Another application has this key",
        "The application id and revision were decided before, from a different body.",
    )
    REVISION_SUPERSEDED = (
        "revision-superseded",
        409,
        "A newer revision exists",
        "A later revision of the application has been decided already.",
    )
    CONFLICT = (
        "conflict",
        409,
        "Conflict",
        "The change contradicts what is stored: a code in use, a forbidden move.",
    )
    PRECONDITION_FAILED = (
        "precondition-failed",
        412,
        "Changed since it was read",
        "If-Match does not name the current version: read again, then repeat the change.",
    )
    BODY_TOO_LARGE = ("body-too-large", 413, "Body too large", "The body is larger than the service accepts.")
    UNSUPPORTED_MEDIA_TYPE = (
        "unsupported-media-type",
        415,
        "Unsupported media type",
        "The content type or encoding of the body is not one that the resource reads.",
    )
    INVALID_REQUEST = (
        "invalid-request",
        422,
        "The request does not fit its schema",
        "A field is missing, unknown, of the wrong type or out of range; `errors` points at each.",
    )
    UNKNOWN_CHANNEL = (
        "unknown-channel",
        422,
        "Unknown channel code",
        "The channel code is neither on the named list nor an alias. No credit decision was made.",
    )
    CONSENT_MISSING = (
        "consent-missing",
        422,
        "Consent is missing",
        "The policy requires the applicant's consent and the application states none. Nothing was stored.",
    )
    UNSTORABLE = (
        "unstorable",
        422,
        "The application cannot be stored",
        "The database refused the values of this application. No decision was made; repeating it does not help.",
    )
    INVALID_POLICY = (
        "invalid-policy",
        422,
        "The policy does not compile",
        "Rows of the policy are wrong; `errors` names the row and column of each. Nothing was stored.",
    )
    PRECONDITION_REQUIRED = (
        "precondition-required",
        428,
        "If-Match is required",
        "The change must name the version that it was made from in If-Match.",
    )
    RATE_LIMITED = ("rate-limited", 429, "Too many requests", "The caller is over its rate limit; see Retry-After.")
    INTERNAL_ERROR = ("internal-error", 500, "Internal error", "A fault of the service. The request id finds it.")
    LOG_UNAVAILABLE = (
        "log-unavailable",
        503,
        "Decisions cannot be recorded now",
        "The decision log does not answer, so nothing is decided. Repeat the same request; see Retry-After.",
    )
    OVERLOADED = ("overloaded", 503, "Overloaded", "Too many decisions wait for the log; see Retry-After.")
    NOT_READY = (
        "not-ready",
        503,
        "Not ready",
        "This worker has no current policy and channels to decide by; see Retry-After.",
    )
    DATABASE_UNAVAILABLE = (
        "database-unavailable",
        503,
        "The database does not answer",
        "The database is away or has no connection to spare; see Retry-After.",
    )
    IDENTITY_PROVIDER_UNAVAILABLE = (
        "identity-provider-unavailable",
        503,
        "Tokens cannot be checked now",
        "The issuer's signing keys cannot be fetched. API keys are not affected; see Retry-After.",
    )

    def __init__(self, slug: str, status: int, title: str, when: str) -> None:
        self.slug = slug
        self.status = status
        self.title = title
        self.when = when

    @property
    def uri(self) -> str:
        """The `type` member."""
        return TYPE_PREFIX + self.slug


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldError:
    """One fault: a JSON pointer into the body ("" is all of it), or `#/query/...`, `#/path/...`, `#/header/...`.

    Faults of a policy also name the row and the column of its table.
    """

    pointer: str
    detail: str
    row: str | None = None
    column: str | None = None

    def document(self) -> dict[str, str]:
        """As it stands in `errors`."""
        document = {"pointer": self.pointer, "detail": self.detail}
        if self.row is not None:
            document["row"] = self.row
        if self.column is not None:
            document["column"] = self.column
        return document


class Problem(Exception):  # noqa: N818 - the word of RFC 9457
    """An answer other than what was asked for. Raise it anywhere under the edge.

    `detail` is for the caller and holds nothing that the caller sent. `extensions` are further members.
    """

    def __init__(
        self,
        type_: ProblemType,
        detail: str | None = None,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        extensions: Mapping[str, Any] | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(type_.slug)
        self.type = type_
        self.detail = detail
        self.errors = tuple(errors)
        self.extensions = dict(extensions or {})
        self.headers = dict(headers or {})
        if retry_after_seconds is not None:
            self.headers["Retry-After"] = str(max(1, math.ceil(retry_after_seconds)))

    @property
    def status(self) -> int:
        """The HTTP status of the answer."""
        return self.type.status

    def document(self, request_id: str) -> dict[str, Any]:
        """The problem document."""
        document: dict[str, Any] = {
            "type": self.type.uri,
            "title": self.type.title,
            "status": self.type.status,
            "instance": INSTANCE_PREFIX + request_id,
        }
        if self.detail is not None:
            document["detail"] = self.detail
        if self.errors:
            document["errors"] = [error.document() for error in self.errors]
        return {**self.extensions, **document}


def problem_bytes(problem: Problem, request_id: str) -> bytes:
    """The body of the answer."""
    return orjson.dumps(problem.document(request_id))


def problem_response(problem: Problem, request_id: str) -> Response:
    """The answer, for Starlette."""
    return Response(
        problem_bytes(problem, request_id),
        status_code=problem.status,
        headers=problem.headers,
        media_type=PROBLEM_MEDIA_TYPE,
    )


async def send_problem(
    send: Send, problem: Problem, request_id: str, headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    """Answer with the problem from a bare ASGI application; `headers` are the ones that every answer carries."""
    body = problem_bytes(problem, request_id)
    own = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in problem.headers.items()]
    await send(
        {
            "type": "http.response.start",
            "status": problem.status,
            "headers": [
                (b"content-type", PROBLEM_MEDIA_TYPE.encode()),
                (b"content-length", str(len(body)).encode()),
                *own,
                *headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})


class ProblemErrorDocument(BaseModel):
    """One entry of `errors`."""

    model_config = ConfigDict(title="ProblemError")

    pointer: str = Field(description="JSON pointer into the body, or `#/query/...`, `#/path/...`, `#/header/...`.")
    detail: str = Field(description="What must hold there. Never a value that was sent.")
    row: str | None = Field(default=None, description="Row of a policy: a rule's code or a section.")
    column: str | None = Field(default=None, description="Column of that row.")


class ProblemDocument(BaseModel):
    """RFC 9457 problem details."""

    model_config = ConfigDict(title="Problem", extra="allow")

    type: str = Field(description=f"`{TYPE_PREFIX}<slug>`.", examples=[ProblemType.INVALID_REQUEST.uri])
    title: str
    status: int = Field(ge=400, le=599)
    instance: str = Field(description=f"`{INSTANCE_PREFIX}<request id>`, for support.")
    detail: str | None = None
    errors: list[ProblemErrorDocument] | None = None


def problem_schemas() -> dict[str, Any]:
    """What an OpenAPI document needs under `components.schemas` for `problem_responses`."""
    schema = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
    nested = schema.pop("$defs")["ProblemErrorDocument"]
    schema["properties"]["errors"]["anyOf"][0]["items"]["$ref"] = "#/components/schemas/ProblemError"
    return {"Problem": schema, "ProblemError": nested}


EVERY_ROUTE = (
    ProblemType.BAD_REQUEST,
    ProblemType.UNAUTHENTICATED,
    ProblemType.FORBIDDEN,
    ProblemType.INVALID_REQUEST,
    ProblemType.RATE_LIMITED,
    ProblemType.INTERNAL_ERROR,
    ProblemType.DATABASE_UNAVAILABLE,
    ProblemType.IDENTITY_PROVIDER_UNAVAILABLE,
)
"""What any route with a caller may answer."""


def problem_responses(*types: ProblemType) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may answer with these problems and with those of every route."""
    by_status: dict[int | str, list[ProblemType]] = {}
    for type_ in sorted({*types, *EVERY_ROUTE}, key=lambda each: (each.status, each.slug)):
        by_status.setdefault(type_.status, []).append(type_)
    return {
        status: {
            "description": f"{HTTPStatus(int(status)).phrase}: "
            + "; ".join(f"`{each.slug}` ({each.when.rstrip('.')})" for each in group),
            "content": {
                PROBLEM_MEDIA_TYPE: {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "examples": {each.slug: {"value": Problem(each).document("{request id}")} for each in group},
                }
            },
        }
        for status, group in by_status.items()
    }
