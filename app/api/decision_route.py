"""POST /v1/decisions as a bare ASGI application: on the hot path a framework would cost more than the decision.

The route is described to FastAPI all the same (`routes/decide.py`), so the OpenAPI document holds it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from time import perf_counter

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.auth import admit, originator_of
from app.api.error_map import problem_for
from app.api.problems import send_problem
from app.api.request_context import REQUEST_ID_HEADER, request_context
from app.api.runtime import Runtime
from app.api.security_headers import SECURITY_HEADERS, check_media_type, read_body
from app.identities.principal import Role
from app.observability import metrics

PATH = "/v1/decisions"
MEDIA_TYPE = "application/json"
DECIDING_ROLES = (Role.ORIGINATION,)
REPLAYED_HEADER = (b"idempotent-replayed", b"true")

_ANSWER_HEADERS = [(b"content-type", MEDIA_TYPE.encode()), *SECURITY_HEADERS]


class DecisionRoute:
    """Answers POST /v1/decisions; every other request goes on to `app`."""

    def __init__(self, app: ASGIApp, gate: Runtime) -> None:
        self._app = app
        self._gate = gate
        self._body_limit = gate.settings.body_limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        started = perf_counter()
        status = 200
        request_id = request_context(scope).request_id
        try:
            caller = await admit(self._gate, scope["headers"], DECIDING_ROLES, datetime.now(UTC))
            check_media_type(scope, MEDIA_TYPE)
            body = await read_body(scope, receive, self._body_limit)
            answer = await self._gate.desk.decide(originator_of(caller), body)
        except ClientDisconnect:
            return
        except Exception as error:
            problem = problem_for(error, request_id)
            status = problem.status
            own_headers = [(REQUEST_ID_HEADER, request_id.encode()), *SECURITY_HEADERS]
            await send_problem(send, problem, request_id, own_headers)
        else:
            headers = [
                *_ANSWER_HEADERS,
                (b"content-length", b"%d" % len(answer.body)),
                (REQUEST_ID_HEADER, request_id.encode()),
            ]
            if answer.replayed:
                headers.append(REPLAYED_HEADER)
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": answer.body})
        metrics.record_request(route=PATH, method="POST", status=status, seconds=perf_counter() - started)
