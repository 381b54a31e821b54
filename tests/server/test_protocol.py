"""Connections of callers who send slowly, nothing, or open too many, beside one who does as usual."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partialmethod
from typing import Any, TypeAlias

import pytest
import uvicorn

from app.server.protocol import BoundedProtocol, room_for_connections
from tests.support.cluster import eventually

HEAD = b"POST / HTTP/1.1\r\nhost: gate\r\n"
USUAL = HEAD + b"content-length: 2\r\n\r\n{}"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Reads a request whole, and answers with how long it was."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size, more = size + len(message["body"]), message["more_body"]
    body = str(size).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


Connect: TypeAlias = Callable[[int], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Opens connections, which are closed at the end of the test."""
    writers: list[asyncio.StreamWriter] = []

    async def one(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writers.append(writer)
        return reader, writer

    yield one
    for writer in writers:
        writer.transport.abort()


@asynccontextmanager
async def served(*, connection_limit: int = 10, keep_alive: int = 30) -> AsyncIterator[int]:
    """The port of a server that looks at what it receives every fifth of a second."""

    class Protocol(BoundedProtocol):
        receive_check_seconds = 0.2
        __init__ = partialmethod(BoundedProtocol.__init__, connection_limit=connection_limit)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            echo, http=Protocol, ws="none", lifespan="off", log_config=None, timeout_keep_alive=keep_alive
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await eventually(lambda: server.started)
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await serving


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body."""
    async with asyncio.timeout(10):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        return int(head[0].split()[1]), headers, await reader.readexactly(int(headers["content-length"]))


async def at_end(reader: asyncio.StreamReader) -> bool:
    async with asyncio.timeout(10):
        return await reader.read() == b""


async def assert_served(connect: Connect, port: int) -> None:
    reader, writer = await connect(port)
    writer.write(USUAL)
    assert (await answer(reader))[0] == 200


@pytest.mark.parametrize("begun", [b"P", HEAD, HEAD + b"content-length: 100\r\n\r\n{"])
async def test_a_request_that_does_not_come_along_is_a_408_and_the_end(begun: bytes, connect: Connect) -> None:
    async with served() as port:
        reader, writer = await connect(port)
        writer.write(begun)
        status, headers, body = await answer(reader)
        assert (status, headers["content-type"], headers["connection"]) == (408, "application/problem+json", "close")
        assert json.loads(body)["type"] == "urn:channel-gate:problem:request-timeout"
        assert await at_end(reader)
        await assert_served(connect, port)


async def test_a_second_request_of_a_connection_is_bounded_too(connect: Connect) -> None:
    async with served() as port:
        reader, writer = await connect(port)
        writer.write(USUAL)
        assert (await answer(reader))[0] == 200
        writer.write(HEAD)
        assert (await answer(reader))[0] == 408


async def test_a_long_body_that_comes_along_is_taken_whole(connect: Connect) -> None:
    async with served() as port:
        reader, writer = await connect(port)
        writer.write(HEAD + b"content-length: 24000\r\n\r\n")
        for _ in range(12):  # more than two seconds, each fifth of which brings enough
            writer.write(b"x" * 2_000)
            await writer.drain()
            await asyncio.sleep(0.18)
        status, _, body = await answer(reader)
        assert (status, body) == (200, b"24000")


async def test_a_connection_that_sends_nothing_is_closed_as_an_idle_one_is(connect: Connect) -> None:
    async with served(keep_alive=1) as port:
        reader, _ = await connect(port)
        assert await at_end(reader)


async def test_one_connection_too_many_is_a_503_and_a_place_that_is_free_again_is_given(connect: Connect) -> None:
    async with served(connection_limit=3) as port:
        held = [await connect(port) for _ in range(3)]
        reader, _ = await connect(port)
        status, headers, body = await answer(reader)
        assert (status, headers["retry-after"], headers["connection"]) == (503, "1", "close")
        assert json.loads(body)["type"] == "urn:channel-gate:problem:overloaded"
        assert await at_end(reader)
        held[0][1].write(USUAL)
        assert (await answer(held[0][0]))[0] == 200
        held[0][1].close()

        async def free() -> bool:
            reader, writer = await connect(port)
            writer.write(USUAL)
            status, _, _ = await answer(reader)
            return status == 200

        await eventually(free)


def test_there_is_room_for_as_many_connections_as_files_may_be_open() -> None:
    assert room_for_connections(10) == 10
    assert room_for_connections(10**7) < 10**7
