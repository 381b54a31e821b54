"""Which problem each error of the inner layers becomes, and what happens to an error that nobody foresaw.

The domain knows no HTTP: an error class gets its status here and nowhere else. An error that is not in the map is a
fault: the caller gets a 500 with the request id, the log gets its type and place (see `app.observability.logs`). Its
text goes nowhere, since a driver's message may quote an applicant's data.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from json import JSONDecodeError
from types import MappingProxyType
from typing import Any

import asyncpg
import sqlalchemy.exc
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.field_errors import field_errors, shown_place
from app.api.problems import FieldError, Problem, ProblemType, problem_response, send_problem
from app.api.request_context import request_context
from app.db.changes import (
    ConflictingChangeError,
    ForbiddenChangeError,
    InvalidChangeError,
    RefusedChangeError,
    StaleChangeError,
    UnknownSubjectError,
)
from app.domain.errors import ApplicationError, ConsentMissingError, PolicyError, UnknownChannelError
from app.identities.oidc import IdentityProviderUnavailableError
from app.journal.cursor import CursorError
from app.journal.entry import JournalUnavailableError
from app.rollout.keeper import NotReadyError
from app.screening.decide import ApplicationConflictError, RevisionSupersededError, UnstorableError

log = structlog.get_logger(__name__)

RETRY_SECONDS = 1.0

_BY_STATUS: Mapping[int, ProblemType] = {
    401: ProblemType.UNAUTHENTICATED,
    403: ProblemType.FORBIDDEN,
    404: ProblemType.NOT_FOUND,
    405: ProblemType.METHOD_NOT_ALLOWED,
    406: ProblemType.NOT_ACCEPTABLE,
    409: ProblemType.CONFLICT,
    412: ProblemType.PRECONDITION_FAILED,
    413: ProblemType.BODY_TOO_LARGE,
    415: ProblemType.UNSUPPORTED_MEDIA_TYPE,
    422: ProblemType.INVALID_REQUEST,
    428: ProblemType.PRECONDITION_REQUIRED,
    429: ProblemType.RATE_LIMITED,
}

_AWAY_CLASSES = frozenset({"08", "40", "53", "55", "57"})
"""Connection, rollback, resources, lock not available, operator: nothing is wrong with the request."""


def invalid_request(error: ValidationError) -> Problem:
    """The problem of a body that the route itself validated."""
    faults = error.errors(include_url=False, include_input=False)
    return Problem(ProblemType.INVALID_REQUEST, errors=field_errors(faults))


def _request_validation(error: RequestValidationError) -> Problem:
    return Problem(ProblemType.INVALID_REQUEST, errors=field_errors(error.errors()))


def _http(error: HTTPException) -> Problem:
    fallback = ProblemType.INTERNAL_ERROR if error.status_code >= 500 else ProblemType.BAD_REQUEST
    return Problem(_BY_STATUS.get(error.status_code, fallback), headers=error.headers)


def _application(error: ApplicationError) -> Problem:
    faults = [FieldError(pointer=fault.pointer, detail=fault.detail) for fault in error.problems]
    return Problem(ProblemType.INVALID_REQUEST, errors=faults)


def _policy(error: PolicyError) -> Problem:
    faults = [
        FieldError(pointer="", detail=fault.detail, row=shown_place(fault.row), column=shown_place(fault.column))
        for fault in error.problems
    ]
    return Problem(ProblemType.INVALID_POLICY, errors=faults)


def _database(error: Exception) -> Problem | None:
    state = getattr(error, "sqlstate", None) or getattr(getattr(error, "orig", None), "sqlstate", None)
    if state is not None:
        return _database_away(error) if state[:2] in _AWAY_CLASSES else None
    away = isinstance(error, asyncpg.InterfaceError | sqlalchemy.exc.OperationalError | sqlalchemy.exc.InterfaceError)
    return _database_away(error) if away or getattr(error, "connection_invalidated", False) else None


def _refused_change(type_: ProblemType) -> Callable[[RefusedChangeError], Problem]:
    return lambda error: Problem(type_, f"{str(error)[:1].upper()}{str(error)[1:]}.")


def _database_away(_: Exception) -> Problem:
    return Problem(ProblemType.DATABASE_UNAVAILABLE, retry_after_seconds=RETRY_SECONDS)


def _cursor(_: CursorError) -> Problem:
    fault = FieldError(pointer="#/query/cursor", detail="is not a cursor of this listing")
    return Problem(ProblemType.INVALID_REQUEST, errors=[fault])


def _journal(error: JournalUnavailableError) -> Problem:
    type_ = ProblemType.OVERLOADED if error.overloaded else ProblemType.LOG_UNAVAILABLE
    return Problem(type_, str(error), retry_after_seconds=error.retry_after_seconds)


def _identity_provider(error: IdentityProviderUnavailableError) -> Problem:
    return Problem(ProblemType.IDENTITY_PROVIDER_UNAVAILABLE, retry_after_seconds=error.retry_after_seconds)


# The values take the class of their key; a mapping cannot say so.
ERROR_MAP: Mapping[type[Exception], Callable[[Any], Problem | None]] = MappingProxyType(
    {
        Problem: lambda problem: problem,
        RequestValidationError: _request_validation,
        HTTPException: _http,
        ApplicationError: _application,
        PolicyError: _policy,
        UnknownChannelError: lambda _: Problem(ProblemType.UNKNOWN_CHANNEL),
        ConsentMissingError: lambda _: Problem(ProblemType.CONSENT_MISSING),
        UnknownSubjectError: _refused_change(ProblemType.NOT_FOUND),
        ConflictingChangeError: _refused_change(ProblemType.CONFLICT),
        StaleChangeError: _refused_change(ProblemType.PRECONDITION_FAILED),
        InvalidChangeError: _refused_change(ProblemType.INVALID_REQUEST),
        ForbiddenChangeError: _refused_change(ProblemType.FORBIDDEN),
        CursorError: _cursor,
        JournalUnavailableError: _journal,
        NotReadyError: lambda _: Problem(ProblemType.NOT_READY, retry_after_seconds=RETRY_SECONDS),
        ApplicationConflictError: lambda _: Problem(ProblemType.APPLICATION_CONFLICT),
        RevisionSupersededError: lambda _: Problem(ProblemType.REVISION_SUPERSEDED),
        UnstorableError: lambda _: Problem(ProblemType.UNSTORABLE),
        IdentityProviderUnavailableError: _identity_provider,
        asyncpg.PostgresError: _database,
        asyncpg.InterfaceError: _database,
        asyncpg.InternalClientError: _database_away,
        sqlalchemy.exc.DBAPIError: _database,
        sqlalchemy.exc.TimeoutError: _database_away,
        ConnectionError: _database_away,
        BlockingIOError: _database_away,  # a server that takes no connections any more, on its socket
        TimeoutError: _database_away,
        socket.gaierror: _database_away,
    }
)
"""By class, the nearest one in the error's ancestry. None: not one that was foreseen, after all."""


def foreseen_problem(error: Exception) -> Problem | None:
    """The problem that an error becomes, or None for a fault."""
    for cls in type(error).__mro__:
        if cls in ERROR_MAP:
            return ERROR_MAP[cls](error)
    return None


def problem_for(error: Exception, request_id: str) -> Problem:
    """What a bare ASGI route answers to an error: what pydantic or a JSON parser refuses there is the body."""
    if isinstance(error, ValidationError):
        return invalid_request(error)
    if isinstance(error, JSONDecodeError):
        return Problem(ProblemType.INVALID_REQUEST, errors=[FieldError(pointer="", detail="is not valid JSON")])
    return foreseen_problem(error) or _fault(error, request_id)


def _fault(error: Exception, request_id: str) -> Problem:
    log.error("request_failed", request_id=request_id, exc_info=error)
    return Problem(ProblemType.INTERNAL_ERROR)


def install_error_handlers(app: FastAPI) -> None:
    """Let FastAPI answer every foreseen error with its problem. Faults pass on to `FaultMiddleware`."""
    for cls in ERROR_MAP:
        app.add_exception_handler(cls, _answer)


async def _answer(request: Request, error: Exception) -> Response:
    problem = foreseen_problem(error)
    if problem is None:
        raise error
    if problem.type is ProblemType.METHOD_NOT_ALLOWED:
        problem.headers |= _allowed(request)
    return problem_response(problem, request_context(request.scope).request_id)


def _allowed(request: Request) -> dict[str, str]:
    """Every method that the document describes for the path. The framework names those of its first route alone."""
    path = getattr(request.scope.get("route"), "path_format", None)
    methods = request.app.openapi()["paths"].get(path)
    return {"Allow": ", ".join(sorted(method.upper() for method in methods))} if methods else {}


class FaultMiddleware:
    """The last stop of every error: no text of one reaches the caller, the server's log or the framework's.

    Where the answer has begun already it is left unfinished, so that the server cuts the connection.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except ClientDisconnect:
            return
        except Exception as error:
            request_id = request_context(scope).request_id
            problem = foreseen_problem(error) or _fault(error, request_id)
            if not started:
                await send_problem(send, problem, request_id)
