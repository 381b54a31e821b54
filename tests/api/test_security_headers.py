"""What every answer carries, and how much a request may bring."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import structlog
from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect

from app.api.error_map import install_error_handlers
from app.api.problems import Problem, ProblemType
from app.api.request_context import TraceContext, parse_traceparent, read_request_context
from app.api.security_headers import SECURITY_HEADERS, BodyLimitMiddleware, http_middleware, page_policy, read_body

LIMIT = 1_000
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def make_app() -> FastAPI:
    app = FastAPI(
        docs_url=None,
        middleware=http_middleware(body_limit_bytes=LIMIT, body_limits={"/stream": None, "/large": 5_000}),
    )
    install_error_handlers(app)

    @app.post("/apply")
    @app.post("/large")
    async def apply(body: dict[str, Any]) -> dict[str, Any]:
        return structlog.contextvars.get_contextvars()

    @app.post("/stream")
    async def stream(request: Request) -> dict[str, int]:
        return {"bytes": sum([len(chunk) async for chunk in request.stream()])}

    @app.get("/page")
    async def page() -> HTMLResponse:
        return HTMLResponse("<p>", headers={"Content-Security-Policy": "default-src 'self'", "Cache-Control": "public"})

    return app


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(make_app()), base_url="http://gate") as made:
        yield made


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_every_answer_carries_the_security_headers(client: httpx.AsyncClient) -> None:
    for answer in (
        await client.post("/apply", json={}),
        await client.post("/apply", json=[]),
        await client.get("/nowhere"),
        await client.post("/apply", content=b"x" * (LIMIT + 1)),
    ):
        for name, value in SECURITY_HEADERS:
            assert answer.headers[name.decode()] == value.decode()


async def test_answer_keeps_the_headers_that_it_set_itself(client: httpx.AsyncClient) -> None:
    answer = await client.get("/page")
    assert answer.headers["content-security-policy"] == "default-src 'self'"
    assert answer.headers["cache-control"] == "public"
    assert answer.headers["x-frame-options"] == "DENY"


def test_policy_of_the_documentation_page_admits_its_inline_script_by_hash() -> None:
    html = bytes(
        get_swagger_ui_html(
            openapi_url="/openapi.json", title="Gate", swagger_js_url="/docs/ui.js", swagger_css_url="/docs/ui.css"
        ).body
    ).decode()
    policy = dict(part.strip().split(" ", 1) for part in page_policy(html).split(";"))
    inline = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    assert len(inline) == 1
    digest = b64encode(hashlib.sha256(inline[0].encode()).digest()).decode()
    assert policy["script-src"] == f"'self' 'sha256-{digest}'"
    assert "unsafe-inline" not in policy["script-src"]
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"


@pytest.mark.parametrize("given_id", ["a", "order-7_2.x", "A" * 64])
async def test_safe_request_id_is_kept(client: httpx.AsyncClient, given_id: str) -> None:
    answer = await client.post("/apply", json={}, headers={"X-Request-Id": given_id})
    assert answer.headers.get_list("x-request-id") == [given_id]
    assert answer.json()["request_id"] == given_id


@pytest.mark.parametrize("given_id", ["", "A" * 65, "a b", "a\tb", "<script>", "張"])
async def test_other_request_id_is_replaced_by_a_uuid7(client: httpx.AsyncClient, given_id: str) -> None:
    answer = await client.post("/apply", json={}, headers={"X-Request-Id": given_id.encode()})
    assert UUID7.fullmatch(answer.headers["x-request-id"])


async def test_trace_context_is_bound_to_the_lines_of_the_request(client: httpx.AsyncClient) -> None:
    bound = (await client.post("/apply", json={}, headers={"traceparent": TRACE})).json()
    assert bound["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert bound["span_id"] == "00f067aa0ba902b7"
    assert "trace_id" not in (await client.post("/apply", json={})).json()


@pytest.mark.parametrize(
    ("header", "sampled"), [(TRACE, True), (TRACE[:-2] + "00", False), ("cc" + TRACE[2:] + "-later", True)]
)
def test_traceparent_is_read(header: str, sampled: bool) -> None:
    assert parse_traceparent(header.encode()) == TraceContext(
        trace_id="4bf92f3577b34da6a3ce929d0e0e4736", span_id="00f067aa0ba902b7", sampled=sampled
    )


@pytest.mark.parametrize(
    "header",
    [
        "",
        TRACE.upper(),
        "ff" + TRACE[2:],
        TRACE + "-more",
        TRACE[:-1],
        TRACE.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32),
        TRACE.replace("00f067aa0ba902b7", "0" * 16),
        " " + TRACE,
    ],
)
def test_broken_traceparent_is_ignored(header: str) -> None:
    assert parse_traceparent(header.encode()) is None


@given(headers=st.lists(st.tuples(st.sampled_from([b"x-request-id", b"traceparent", b"host"]), st.binary(max_size=80))))
def test_no_header_breaks_the_context(headers: list[tuple[bytes, bytes]]) -> None:
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", read_request_context(headers).request_id)


@pytest.mark.parametrize("path", ["/apply", "/stream", "/large"])
async def test_body_at_the_limit_is_read(client: httpx.AsyncClient, path: str) -> None:
    body = b'{"a":"' + b"x" * (LIMIT - 8) + b'"}'
    assert len(body) == LIMIT
    json_type = {"content-type": "application/json"}
    assert (await client.post(path, content=body, headers=json_type)).status_code == 200
    streamed = chunks(body[:400], body[400:])
    assert (await client.post(path, content=streamed, headers=json_type)).status_code == 200


async def test_body_over_the_limit_is_a_413_whether_its_length_is_declared_or_not(client: httpx.AsyncClient) -> None:
    json_type = {"content-type": "application/json"}
    for content in (b"x" * (LIMIT + 1), chunks(b"x" * LIMIT, b"x"), chunks(*[b"x"] * (LIMIT + 1))):
        answer = await client.post("/apply", content=content, headers=json_type)
        assert answer.status_code == 413
        assert answer.json()["type"] == ProblemType.BODY_TOO_LARGE.uri
        assert answer.headers["connection"] == "close"
        assert answer.headers["x-request-id"]


async def test_path_may_have_a_limit_of_its_own(client: httpx.AsyncClient) -> None:
    assert (await client.post("/large", json={"a": "x" * 4_000})).status_code == 200
    assert (await client.post("/large", json={"a": "x" * 6_000})).status_code == 413
    answer = await client.post("/stream", content=chunks(*[b"x" * 1_000] * 50))
    assert answer.json() == {"bytes": 50_000}


def receiving(*messages: dict[str, Any]) -> Any:
    waiting = list(messages)

    async def receive() -> dict[str, Any]:
        return waiting.pop(0)

    return receive


def part(body: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_bare_route_reads_a_body_up_to_the_limit() -> None:
    scope: dict[str, Any] = {"headers": []}
    assert await read_body(scope, receiving(part(b"abc")), 3) == b"abc"
    assert await read_body(scope, receiving(part(b"a", more=True), part(b"bc")), 3) == b"abc"
    for refused in (receiving(part(b"abcd")), receiving(part(b"abc", more=True), part(b"d"))):
        with pytest.raises(Problem) as raised:
            await read_body(scope, refused, 3)
        assert raised.value.status == 413


async def test_bare_route_refuses_a_declared_length_before_it_reads() -> None:
    with pytest.raises(Problem) as raised:
        await read_body({"headers": [(b"content-length", b"4")]}, receiving(), 3)
    assert raised.value.headers == {"Connection": "close"}


async def test_caller_that_goes_away_ends_the_reading() -> None:
    with pytest.raises(ClientDisconnect):
        await read_body({"headers": []}, receiving(part(b"a", more=True), {"type": "http.disconnect"}), 3)


async def test_answer_that_has_begun_is_cut_off_at_the_limit() -> None:
    sent: list[Any] = []

    async def echo(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            message = await receive()
            await send({"type": "http.response.body", "body": message["body"], "more_body": True})

    async def send(message: Any) -> None:
        sent.append(message)

    limited = BodyLimitMiddleware(echo, limit_bytes=3)
    scope = {"type": "http", "path": "/", "headers": []}
    await limited(scope, receiving(part(b"abc", more=True), part(b"d")), send)
    assert [message.get("body", message.get("status")) for message in sent] == [200, b"abc"]
