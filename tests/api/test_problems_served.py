"""Applicant data in bad requests to the real service: no answer, log line or metric repeats it."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import httpx

from app.api.examples import APPLICATION
from tests.support.server import Server

NAME, PHONE, CITIZEN_ID, EMAIL = "张伟 Zhang Wei", "13800138000", "110101199003078515", "zhang.wei@example.com"
TRACES = re.compile("|".join(["张", "Zhang", r"\\u5f20", "%E5%BC%A0", PHONE[:7], CITIZEN_ID[:7], "zhang.wei"]))


def bad_applications() -> list[Any]:
    """The example with each field in turn replaced, and names that no schema knows."""
    bad: list[Any] = [
        {**APPLICATION, field: value} for field in APPLICATION for value in (NAME, [EMAIL], {PHONE: NAME})
    ]
    for part in ("applicant", "bureau"):
        bad += [{**APPLICATION, part: {**APPLICATION[part], field: NAME}} for field in APPLICATION[part]]
        bad += [{**APPLICATION, part: {**APPLICATION[part], value: value}} for value in (NAME, CITIZEN_ID, EMAIL)]
    return [*bad, [NAME], NAME, {CITIZEN_ID: EMAIL}]


async def test_nothing_that_was_sent_comes_back_or_is_written_down(gate_server: Server) -> None:
    answers: list[httpx.Response] = []
    for role in ("origination", "admin", "policy-author"):
        client = gate_server.client(role)
        for path in ("/v1/decisions", "/v1/channels", "/v1/policies", "/v1/policies/validate"):
            answers += [
                await client.post(path, json=body) for body in bad_applications()[:: 1 if role == "origination" else 7]
            ]
        answers.append(await client.post("/v1/decisions", content=json.dumps(NAME + PHONE)[:-3].encode()))
        answers.append(await client.post("/v1/decisions", content=b'{"application_id":"\xff' + PHONE.encode()))
        answers.append(
            await client.get("/v1/decisions", params={"cursor": CITIZEN_ID, "channel": NAME, "limit": EMAIL})
        )
        for value in (NAME, CITIZEN_ID, EMAIL):
            answers.append(await client.get(f"/v1/decisions/{value}"))
            answers.append(await client.get(f"/v1/channels/{value}"))
            answers.append(await client.get(f"/{value}"))
            answers.append(
                await client.get("/v1/decisions", headers={"Authorization": f"Bearer {value.encode().hex()}"})
            )
    metrics = await gate_server.client("admin").get("/metrics")
    refused = [answer for answer in answers if answer.status_code >= 400]
    assert len(refused) > 200
    for answer in refused:
        assert answer.status_code < 500, answer.text
        assert answer.headers["content-type"] == "application/problem+json", answer.request.url
        assert not TRACES.search(answer.text), answer.text
    assert "gate_http_requests_total" in metrics.text
    assert not TRACES.search(metrics.text)
    assert not TRACES.search(gate_server.log)


async def test_oversized_chunked_body_is_refused_and_the_connection_closed(gate_server: Server) -> None:
    for path in (b"/v1/decisions", b"/v1/channels"):
        key = gate_server.client("admin" if path.endswith(b"channels") else "origination").headers["Authorization"]
        reader, writer = await asyncio.open_connection("127.0.0.1", gate_server.port)
        writer.write(
            b"POST " + path + b" HTTP/1.1\r\nHost: gate\r\nContent-Type: application/json\r\n"
            b"Authorization: " + key.encode() + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for _ in range(65):  # the last one passes the limit: an unread rest would reset the connection
            writer.write(b"400\r\n" + b" " * 0x400 + b"\r\n")
        await writer.drain()
        answer = await asyncio.wait_for(reader.read(), timeout=10)
        assert answer.startswith(b"HTTP/1.1 413 "), answer
        assert b"connection: close" in answer.lower()
        assert b"body-too-large" in answer
        writer.close()
        await writer.wait_closed()
