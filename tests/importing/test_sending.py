"""Sending and accounting: what passes is repeated, what stays is written down, and a kill loses nothing."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.cli.errors import CommandError
from app.cli.importing import sender as sending
from app.cli.importing.files import NumberedRow
from app.cli.importing.ledger import Ledger, fingerprint
from app.cli.importing.mapper import Application, Mapper
from app.cli.importing.mapping import parse_mapping
from app.cli.importing.run import Pace, run
from app.cli.importing.sender import Decided, Refused, Sender, UnavailableError
from tests.importing.test_mapping import MINIMAL

CLIENTS = 6

Reply = tuple[int, dict[str, Any], dict[str, str]]


def _decision(application_id: str, outcome: str = "accept") -> dict[str, Any]:
    reasons = [] if outcome == "accept" else [{"code": "IN01", "text": {"en": "Income", "zh": "收入"}}]
    return {"application_id": application_id, "channel_code": "web", "outcome": outcome, "reasons": reasons}


def _problem(slug: str, **members: Any) -> dict[str, Any]:
    return {"type": f"urn:channel-gate:problem:{slug}", "title": slug, **members}


class Gate:
    """A service that answers by the rule that a test gives it, and remembers what it was asked."""

    def __init__(self, reply: Callable[[str, int], Reply | Exception]) -> None:
        self._reply = reply
        self.asked: Counter[str] = Counter()
        self.under_way = self.most_under_way = 0

    async def handle(self, request: httpx.Request) -> httpx.Response:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await asyncio.sleep(0)
        try:
            if request.url.path == sending.BATCH_PATH:
                return self._batch(request.content.split(b"\n"))
            status, document, headers = self._answer(request.content)
            return httpx.Response(status, json=document, headers=headers)
        finally:
            self.under_way -= 1

    def _answer(self, body: bytes) -> Reply:
        application_id = json.loads(body)["application_id"]
        self.asked[application_id] += 1
        reply = self._reply(application_id, self.asked[application_id])
        if isinstance(reply, Exception):
            raise reply
        return reply

    def _batch(self, lines: list[bytes]) -> httpx.Response:
        answers = []
        for number, line in enumerate(lines, start=1):
            status, document, _ = self._answer(line)
            key = "decision" if status == 200 else "problem"
            answers.append(json.dumps({"line": number, "status": status, key: document}))
        return httpx.Response(200, text="\n".join(answers) + "\n")

    @asynccontextmanager
    async def sender(self, patience_seconds: float = 60) -> AsyncIterator[Sender]:
        async with httpx.AsyncClient(transport=httpx.MockTransport(self.handle), base_url="http://gate") as client:
            yield Sender([client] * CLIENTS, patience_seconds=patience_seconds)


def _ok(application_id: str, _: int = 1) -> Reply:
    return 200, _decision(application_id), {}


def _application(application_id: str) -> Application:
    return Application(application_id=application_id, body=json.dumps({"application_id": application_id}).encode())


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that the sender asked for; none is waited for."""
    asked: list[float] = []
    real_sleep = asyncio.sleep

    async def sleep(seconds: float) -> None:
        if seconds:
            asked.append(seconds)
        await real_sleep(0)

    monkeypatch.setattr(sending.asyncio, "sleep", sleep)
    return asked


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize(
    "passing", [(503, "log-unavailable"), (429, "rate-limited"), (502, ""), (500, "internal-error")]
)
async def test_what_passes_by_itself_is_sent_again(waits: list[float], batch: bool, passing: tuple[int, str]) -> None:
    status, slug = passing
    gate = Gate(lambda name, times: _ok(name) if times > 2 else (status, _problem(slug), {}))
    async with gate.sender() as sender:
        (answer,) = await sender.send([_application("a")], batch=batch)
    assert answer == Decided(channel_code="web", outcome="accept", reasons=())
    assert gate.asked["a"] == 3
    assert len(waits) == 2


async def test_the_pause_that_the_service_asks_for_is_kept(waits: list[float]) -> None:
    gate = Gate(lambda name, times: _ok(name) if times > 1 else (503, _problem("overloaded"), {"Retry-After": "7"}))
    async with gate.sender() as sender:
        await sender.send([_application("a")], batch=False)
    assert waits == [7.0]


async def test_pauses_grow_to_a_limit(waits: list[float]) -> None:
    gate = Gate(lambda name, times: _ok(name) if times > 12 else httpx.ConnectError("down"))
    async with gate.sender() as sender:
        await sender.send([_application("a")], batch=False)
    assert waits[0] < waits[3] < waits[5] <= 10
    assert max(waits) <= 10


async def test_of_a_batch_only_the_open_lines_are_sent_again(waits: list[float]) -> None:
    gate = Gate(lambda name, times: (503, _problem("overloaded"), {}) if name == "b" and times == 1 else _ok(name))
    async with gate.sender() as sender:
        answers = await sender.send([_application(name) for name in "abc"], batch=True)
    assert [isinstance(answer, Decided) for answer in answers] == [True] * 3
    assert gate.asked == {"a": 1, "b": 2, "c": 1}
    assert len(waits) == 1


async def test_a_service_that_stays_away_ends_the_patience(waits: list[float]) -> None:
    gate = Gate(lambda *_: httpx.ConnectError("down"))
    async with gate.sender(patience_seconds=0) as sender:
        with pytest.raises(UnavailableError, match="ConnectError"):
            await sender.send([_application("a")], batch=False)
    assert waits == []


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.usefixtures("waits")
async def test_a_row_that_fails_the_service_again_and_again_is_given_up(batch: bool) -> None:
    gate = Gate(lambda *_: (500, _problem("internal-error"), {}))
    async with gate.sender() as sender:
        (answer,) = await sender.send([_application("a")], batch=batch)
    assert isinstance(answer, Refused)
    assert answer.failed
    assert gate.asked["a"] == 4


@pytest.mark.parametrize("status", [401, 403, 404, 405, 307])
async def test_a_wrong_key_or_address_stops_at_once(status: int) -> None:
    gate = Gate(lambda *_: (status, _problem("unauthenticated"), {}))
    async with gate.sender() as sender:
        with pytest.raises(CommandError, match=str(status)):
            await sender.send([_application("a")], batch=False)


async def test_a_refusal_keeps_its_pointers_and_counts_as_the_row_s_own() -> None:
    errors = [{"pointer": "/amount", "detail": "must be more than 0"}]
    gate = Gate(lambda *_: (422, _problem("invalid-request", errors=errors), {}))
    async with gate.sender() as sender:
        (answer,) = await sender.send([_application("a")], batch=False)
    assert isinstance(answer, Refused)
    assert (answer.kind, answer.failed) == ("invalid-request", False)
    assert [problem.document() for problem in answer.problems] == errors


# The run --------------------------------------------------------------------------------------------------------------


def _rows(count: int) -> list[NumberedRow]:
    return [
        NumberedRow(
            number=n,
            cells={"id": f"a-{n}", "source": "web", "wanted": "0" if n % 10 == 0 else "100"},
            done=n / count,
        )
        for n in range(1, count + 1)
    ]


def _ledger(folder: Path, *, resume: bool = False, of: str = "one") -> Ledger:
    return Ledger(
        state_path=folder / "state.json",
        rejects_path=folder / "rejects.ndjson",
        input_fingerprint=of,
        resume=resume,
    )


async def _run(gate: Gate, ledger: Ledger, count: int, *, concurrency: int = 4, batch: int = 1) -> list[float]:
    progress: list[float] = []
    async with gate.sender(patience_seconds=0) as sender:
        with ledger:
            await run(
                iter(_rows(count)),
                mapper=Mapper(parse_mapping(MINIMAL)),
                sender=sender,
                ledger=ledger,
                pace=Pace(concurrency=concurrency, batch=batch),
                on_progress=progress.append,
            )
    return progress


def _rejects(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rejects.ndjson").read_bytes().splitlines()]


@pytest.mark.parametrize("batch", [1, 7])
async def test_every_row_is_decided_or_in_the_rejects_file_in_order(tmp_path: Path, batch: int) -> None:
    def reply(name: str, _: int) -> Reply:
        if name.endswith("5"):
            return 409, _problem("application-conflict"), {}
        return 200, _decision(name, "reject" if name.endswith("7") else "accept"), {}

    ledger = _ledger(tmp_path)
    progress = await _run(Gate(reply), ledger, 100, batch=batch)
    tally = ledger.tally
    assert (tally.rows, tally.decided, tally.rejected, tally.failed) == (100, 80, 20, 0)
    assert tally.channels["web"].outcomes == {"accept": 70, "reject": 10}
    assert tally.channels["web"].reasons == {"IN01: Income": 10}
    rejects = _rejects(tmp_path)
    assert [line["row"] for line in rejects] == sorted(line["row"] for line in rejects)
    assert Counter(line["kind"] for line in rejects) == {"application-conflict": 10, "not-mapped": 10}
    assert rejects[1] == {
        "row": 10,
        "application_id": None,
        "kind": "not-mapped",
        "problems": [{"pointer": "/amount", "column": "wanted", "detail": "must be more than 0"}],
    }
    assert progress == sorted(progress)
    assert progress[-1] == 1.0


async def test_no_more_requests_are_under_way_than_there_are_clients(tmp_path: Path) -> None:
    gate = Gate(_ok)
    await _run(gate, _ledger(tmp_path), 300, concurrency=CLIENTS)
    assert 1 < gate.most_under_way <= CLIENTS


async def test_an_import_goes_on_where_it_stopped_and_counts_every_row_once(tmp_path: Path) -> None:
    down = Gate(lambda name, _: httpx.ConnectError("down") if int(name[2:]) >= 42 else _ok(name))
    with pytest.raises(UnavailableError):
        await _run(down, _ledger(tmp_path), 100)
    stopped = _ledger(tmp_path, resume=True)
    assert stopped.tally.rows == 41
    up = Gate(_ok)
    await _run(up, stopped, 100)
    assert (stopped.tally.rows, stopped.tally.decided, stopped.tally.rejected) == (100, 90, 10)
    assert [line["row"] for line in _rejects(tmp_path)] == list(range(10, 101, 10))
    assert min(int(name[2:]) for name in up.asked) == 42


async def test_rejects_written_after_the_last_saved_state_are_not_doubled(tmp_path: Path) -> None:
    await _run(Gate(_ok), _ledger(tmp_path), 20)
    with (tmp_path / "rejects.ndjson").open("ab") as rejects:
        rejects.write(b'{"row": 30, "kind": "not-mapp')  # what a kill leaves
    ledger = _ledger(tmp_path, resume=True)
    await _run(Gate(_ok), ledger, 40)
    assert [line["row"] for line in _rejects(tmp_path)] == [10, 20, 30, 40]
    assert ledger.tally.rows == 40


async def test_a_state_of_another_input_is_not_resumed(tmp_path: Path) -> None:
    with _ledger(tmp_path, of="one"):
        pass
    with pytest.raises(CommandError, match="is another than before"):
        _ledger(tmp_path, resume=True, of="two")


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"nonsense", b'{"version": 1, "tally": 3}'])
def test_a_spoilt_state_is_told_and_never_guessed(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.json").write_bytes(content)
    with pytest.raises(CommandError, match="is no state of an import"):
        _ledger(tmp_path, resume=True)


def test_resuming_from_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="start without --resume"):
        _ledger(tmp_path, resume=True)


def test_a_fingerprint_tells_files_mappings_and_services_apart(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(b"a\n1\n")
    first = fingerprint(file, "mapping", "url")
    assert first == fingerprint(file, "mapping", "url")
    assert first != fingerprint(file, "mapping", "other")
    file.write_bytes(b"a\n2\n")
    assert first != fingerprint(file, "mapping", "url")
