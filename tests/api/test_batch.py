"""POST /v1/decisions/batch: lines in, lines out, in order, and nothing lost or left behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from itertools import pairwise
from time import monotonic
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.api.batch import _lines
from app.settings import Settings
from tests.api.conftest import StartService
from tests.support.applications import application
from tests.support.cluster import eventually
from tests.support.server import Server
from tests.support.service import Service

PATH = "/v1/decisions/batch"
NDJSON = {"content-type": "application/x-ndjson"}
_LIMIT = Settings().body_limit_bytes
pytestmark = pytest.mark.xdist_group("edge")


def line(application_id: str, **changes: Any) -> bytes:
    return json.dumps(application(application_id, **changes)).encode()


async def send(gate: Service, body: bytes | AsyncIterator[bytes], who: str = "origination") -> list[dict[str, Any]]:
    async with gate.client(who) as client:
        answer = await client.post(PATH, content=body, headers=NDJSON)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(each) for each in answer.content.splitlines()]


def slug(answer: dict[str, Any]) -> str:
    assert answer["status"] == answer["problem"]["status"]
    return str(answer["problem"]["type"]).rpartition(":")[2]


# What comes out -------------------------------------------------------------------------------------------------------


async def test_answers_come_in_the_order_of_the_lines(gate: Service) -> None:
    answers = await send(gate, b"\n".join(line(f"order-{n}") for n in range(300)))
    assert [answer["line"] for answer in answers] == list(range(1, 301))
    assert [answer["decision"]["application_id"] for answer in answers] == [f"order-{n}" for n in range(300)]


async def test_a_line_has_the_bytes_of_a_single_answer(gate: Service) -> None:
    body = line("single")
    async with gate.client("origination") as client:
        batch = await client.post(PATH, content=body, headers=NDJSON)
        single = await client.post("/v1/decisions", content=body)
    assert batch.content == b'{"line":1,"status":200,"decision":' + single.content + b"}\n"
    assert single.headers["idempotent-replayed"] == "true"


async def test_a_bad_line_gets_its_problem_and_the_others_go_on(gate: Service) -> None:
    bad = {
        b"{": "invalid-request",
        b"[]": "invalid-request",
        b"\xff\xfe": "invalid-request",
        b"null": "invalid-request",
        line("bad-1", channel_code="nowhere"): "unknown-channel",
        line("bad-2", consent_at=None): "consent-missing",
        line("bad-3", amount=1): "invalid-request",
        line("bad-4").replace(b'"all_in_apr_pct": 18.5', b'"all_in_apr_pct": 24.0000000000000001'): "invalid-request",
    }
    lines = [each for n, wrong in enumerate(bad) for each in (wrong, line(f"good-{n}"))]
    answers = await send(gate, b"\n".join(lines))
    assert [slug(answer) for answer in answers[::2]] == list(bad.values())
    assert [answer["status"] for answer in answers[1::2]] == [200] * len(bad)


async def test_blank_lines_are_counted_and_not_answered(gate: Service) -> None:
    body = b"\n \r\n" + line("blank-1") + b"\r\n\t\n" + line("blank-2") + b"\r\n\r\n"
    assert [(answer["line"], answer["status"]) for answer in await send(gate, body)] == [(3, 200), (5, 200)]
    assert await send(gate, b"") == []
    assert await send(gate, b"\n\r\n  ") == []


async def test_a_line_that_is_too_long_is_passed_over(gate: Service) -> None:
    longest = line("longest")
    longest += b" " * (_LIMIT - len(longest))
    body = b"\n".join([longest, longest + b" ", b"x" * 200_000, line("after")])
    answers = await send(gate, body)
    assert [answer["status"] for answer in answers] == [200, 413, 413, 200]
    assert slug(answers[1]) == "body-too-large"


async def test_lines_past_the_limit_are_not_read(start_service: StartService) -> None:
    service = await start_service(batch_line_limit=5)
    client = await service.client("origination")
    answer = await client.post(PATH, content=b"\n".join(line(f"many-{n}") for n in range(9)), headers=NDJSON)
    answers = [json.loads(each) for each in answer.content.splitlines()]
    assert [each["status"] for each in answers] == [200] * 5 + [413]
    assert answers[5]["line"] == 6
    after = await client.post("/v1/decisions", content=line("many-7"))
    assert "idempotent-replayed" not in after.headers


async def test_duplicates_in_one_batch_are_one_decision_and_another_body_a_conflict(gate: Service) -> None:
    same, other = line("twin"), line("twin", amount=4_000_000)
    answers = await send(gate, b"\n".join([*[same] * 50, other, *[same] * 50]))
    decisions = [answer["decision"] for answer in answers if answer["status"] == 200]
    assert len({decision["decision_id"] for decision in decisions}) == 1
    assert len(decisions) == 100
    assert slug(answers[50]) == "application-conflict"


@pytest.mark.parametrize("who", ["analyst", "admin", "policy-author"])
async def test_no_other_role_may_send_a_batch(gate: Service, who: str) -> None:
    async with gate.client(who) as client:
        assert (await client.post(PATH, content=line("role"), headers=NDJSON)).status_code == 403


async def test_a_body_that_is_no_lines_is_a_415(gate: Service) -> None:
    async with gate.client("origination") as client:
        for headers in ({"content-type": "application/json"}, NDJSON | {"content-encoding": "gzip"}):
            assert (await client.post(PATH, content=line("media"), headers=headers)).status_code == 415


async def test_a_batch_over_the_rate_is_held_back_and_not_refused(start_service: StartService) -> None:
    service = await start_service(rate_limit_per_second=20)
    client = await service.client("origination")
    started = monotonic()
    answer = await client.post(PATH, content=b"\n".join(line(f"slow-{n}") for n in range(60)), headers=NDJSON)
    assert [json.loads(each)["status"] for each in answer.content.splitlines()] == [200] * 60
    # A burst first, the rest at 20 a second: see `app.identities.rate_limit`.
    assert monotonic() - started > (60 - 2 * 20) / 20 - 0.2


# How it comes in ------------------------------------------------------------------------------------------------------


async def test_no_piece_of_a_body_that_comes_slowly_is_lost(gate: Service) -> None:
    """Whoever else listened to the connection would take pieces away from who reads the lines."""
    body = b"\n".join(line(f"piece-{n}") for n in range(20))

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 97):
            await asyncio.sleep(0)
            yield body[start : start + 97]

    answers = await send(gate, pieces())
    assert [answer["status"] for answer in answers] == [200] * 20


def _whole(body: bytes, limit: int) -> list[bytes | None]:
    lines = body.split(b"\n")
    if not lines[-1].strip() and len(lines[-1]) <= limit:
        lines.pop()
    return [None if len(each) > limit else each.strip() for each in lines]


async def _read(pieces: Iterable[bytes], limit: int) -> list[bytes | None]:
    async def chunks() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    return [each async for each in _lines(chunks(), limit)]


@settings(max_examples=400, deadline=None)
@given(
    body=st.lists(st.sampled_from([b"a", b"\n", b"\r\n", b" ", b"bcdef", b"{}", b"\t", b"g" * 12])).map(b"".join),
    cuts=st.lists(st.integers(min_value=0, max_value=200)),
    limit=st.integers(min_value=1, max_value=12),
)
def test_lines_are_the_same_wherever_the_body_is_cut(body: bytes, cuts: list[int], limit: int) -> None:
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    pieces = [body[start:end] for start, end in pairwise(edges)]
    assert asyncio.run(_read(pieces, limit)) == _whole(body, limit)


# A real connection ----------------------------------------------------------------------------------------------------


async def _open(server: Server, head: str = "") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    key = server.database.keys["origination"]
    writer.write(
        f"POST {PATH} HTTP/1.1\r\nHost: gate\r\nConnection: close\r\nContent-Type: application/x-ndjson\r\n"
        f"Authorization: Bearer {key}\r\n{head}\r\n".encode()
    )
    return reader, writer


async def test_a_client_that_sends_everything_before_it_reads_does_not_lock_up(edge_server: Server) -> None:
    body = b"\n".join(line(f"all-{n}") for n in range(5_000))
    reader, writer = await _open(edge_server, f"Content-Length: {len(body)}\r\n")
    writer.write(body)
    await asyncio.wait_for(writer.drain(), 90)
    answer = await asyncio.wait_for(reader.read(), 90)
    assert answer.count(b'"status":200') == 5_000
    assert answer.index(b'{"line":1,') < answer.index(b'{"line":5000,')
    writer.close()


async def test_answers_flow_while_the_body_is_still_open(edge_server: Server) -> None:
    """A conversation: the next line is sent once the one before is answered."""
    reader, writer = await _open(edge_server, "Transfer-Encoding: chunked\r\n")
    for n in range(5):
        content = line(f"talk-{n}") + b"\n"
        writer.write(b"%x\r\n%b\r\n" % (len(content), content))
        await asyncio.wait_for(reader.readuntil(b'{"line":%d,"status":200' % (n + 1)), 10)
    writer.write(b"0\r\n\r\n")
    assert (await asyncio.wait_for(reader.read(), 10)).endswith(b"0\r\n\r\n")
    writer.close()


async def test_a_client_that_goes_away_leaves_no_task_behind(gate: Service) -> None:
    """In the middle of a line, after a hundred whole ones."""
    before = {task for task in asyncio.all_tasks() if not task.done()}
    body = b"\n".join(line(f"leaver-{n}") for n in range(100)) + b'\n{"application_id": "half'
    messages = [
        {"type": "http.request", "body": body, "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0)
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def deliver(message: Any) -> None:
        sent.append(message)

    key = gate.keys["origination"]
    headers = [(b"authorization", f"Bearer {key}".encode()), (b"content-type", b"application/x-ndjson")]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": PATH,
        "raw_path": PATH.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("gate", 80),
    }
    await gate.app(scope, receive, deliver)
    answered = b"".join(message.get("body", b"") for message in sent)
    assert answered.count(b'"status":200') == 100
    left = {task for task in asyncio.all_tasks() if not task.done()} - before
    assert not left


async def test_a_server_whose_clients_go_away_goes_on(edge_server: Server) -> None:
    body = b"\n".join(line(f"gone-{n}") for n in range(400))
    for _ in range(5):
        _, writer = await _open(edge_server, f"Content-Length: {len(body) + 1}\r\n")
        writer.write(body[: len(body) // 2])
        await writer.drain()
        writer.transport.abort()
    client = edge_server.client()

    async def calm() -> bool:
        text = (await client.get("/metrics")).text
        return "\ngate_queue_depth 0.0\n" in text and "/v1/decisions/batch" in text

    await eventually(calm, timeout_seconds=30)
    whole = await client.post(PATH, content=body, headers=NDJSON)
    assert whole.content.count(b'"status":200') == 400
    assert '"level":"error"' not in edge_server.log.replace(" ", "")
    assert "Traceback" not in edge_server.log
