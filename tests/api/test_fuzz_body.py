"""Bodies of POST /v1/decisions that no one would send: each gets a decision or a problem, and repeats nothing."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import AsyncIterator
from copy import deepcopy
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from app.domain.application import LoanApplication
from app.domain.compiler import compile_policy
from app.domain.errors import DomainError
from app.domain.intake import read_application
from app.policies.defaults import default_policy
from app.screening.payload import PAYLOAD
from app.screening.request import receive
from tests.support.applications import application
from tests.support.service import Service

PATH = "/v1/decisions"
PLANTED = "Zhang-13800138000"
"""Text that must come back in no problem."""
_POLICY = compile_policy(default_policy())
_CALM = {"deadline": None, "suppress_health_check": list(HealthCheck)}
pytestmark = pytest.mark.xdist_group("edge")


def check(answer: httpx.Response) -> None:
    """A decision, or a problem that the document names and that holds nothing of the body."""
    document = answer.json()
    if answer.status_code == 200:
        assert document["outcome"] in {"accept", "escalate", "reject"}
        assert document["reasons"] or document["outcome"] == "accept"
        return
    assert answer.status_code in {400, 409, 413, 415, 422}, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert document["status"] == answer.status_code
    assert PLANTED not in answer.text
    assert len(answer.content) < 20_000


# Any JSON -------------------------------------------------------------------------------------------------------------

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(10**30), max_value=10**30),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from([PLANTED, "", "\x00", "\ud800", "1e1", "NaN", "1700000000", "2026-02-30T00:00:00Z", "9" * 50]),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


def _paths(value: dict[str, Any]) -> list[tuple[str, ...]]:
    paths: list[tuple[str, ...]] = []
    for name, item in value.items():
        paths.append((name,))
        if isinstance(item, dict):
            paths += [(name, *rest) for rest in _paths(item)]
    return paths


_EXAMPLE = application("fuzz")
_PLACES = st.sampled_from(
    [*_paths(_EXAMPLE), ("attributes",), ("attributes", "a"), ("unknown", "bureau.score"), ("sub_id",), ("revision",)]
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """The example with some places overwritten, removed or invented."""
    body = deepcopy(_EXAMPLE) | {"application_id": draw(st.uuids()).hex}
    for _ in range(draw(st.integers(min_value=0, max_value=3))):
        *parents, name = draw(_PLACES)
        part = body
        for parent in parents:
            part = part.setdefault(parent, {})
            if not isinstance(part, dict):
                break
        else:
            action = draw(st.sampled_from(["set", "set", "drop", "rename"]))
            if action == "set":
                part[name] = draw(JSON)
            elif action == "drop":
                part.pop(name, None)
            else:
                part[draw(st.text(max_size=10)) or PLANTED] = part.pop(name, None)
    return json.dumps(body, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")


@settings(max_examples=150, **_CALM)
@given(document=JSON)
async def test_any_json_is_a_problem(gate: Service, document: Any) -> None:
    async with gate.client("origination") as client:
        content = json.dumps(document).encode("utf-8", "surrogatepass")
        answer = await client.post(PATH, content=content)
    check(answer)
    assert answer.status_code == 422


@settings(max_examples=400, **_CALM)
@given(body=mutated())
async def test_a_mutated_application_is_a_decision_or_a_problem(gate: Service, body: bytes) -> None:
    async with gate.client("origination") as client:
        first, second = await client.post(PATH, content=body), await client.post(PATH, content=body)
    check(first)
    assert second.status_code == first.status_code
    if first.status_code == 200:
        assert (second.content, second.headers["idempotent-replayed"]) == (first.content, "true")


@settings(max_examples=200, **_CALM)
@given(noise=st.binary(max_size=200), at=st.integers(min_value=0, max_value=900), cut=st.integers(0, 900))
async def test_bytes_put_in_or_cut_out_are_a_decision_or_a_problem(
    gate: Service, noise: bytes, at: int, cut: int
) -> None:
    body = json.dumps(_EXAMPLE).encode()
    async with gate.client("origination") as client:
        check(await client.post(PATH, content=body[:at] + noise + body[at:]))
        check(await client.post(PATH, content=body[:cut]))


# Bodies by name -------------------------------------------------------------------------------------------------------


def _with(text: str, application_id: str = "named") -> bytes:
    """The example with a piece of raw JSON in it."""
    return json.dumps(application(application_id)).replace('"device"', f'{text}, "device"', 1).encode()


WRONG = {
    "empty": b"",
    "blank": b" \n ",
    "null": b"null",
    "array": b"[]",
    "text": f'"{PLANTED}"'.encode(),
    "cut": json.dumps(_EXAMPLE).encode()[:-1],
    "two": json.dumps(_EXAMPLE).encode() * 2,
    "deep arrays": b"[" * 60_000,
    "deep objects": b'{"a":' * 10_000,
    "deep and whole": _with('"x": ' + "[" * 190 + "]" * 190),
    "deep attribute": _with('"attributes": {"a": ' + "[" * 150 + "]" * 150 + "}"),
    "byte order mark": b"\xef\xbb\xbf" + json.dumps(_EXAMPLE).encode(),
    "UTF-16": json.dumps(_EXAMPLE).encode("utf-16"),
    "invalid UTF-8": _with('"sub_id": "@"').replace(b"@", b"\xff\xfe"),
    "overlong UTF-8": _with('"sub_id": "@"').replace(b"@", b"\xc0\xaf"),
    "surrogate as UTF-8": _with('"sub_id": "@"').replace(b"@", b"\xed\xa0\x80"),
    "lone surrogate": _with(r'"sub_id": "\ud800"'),
    "surrogates the wrong way": _with(r'"sub_id": "\udc00\ud800"'),
    "NUL": _with(r'"sub_id": "a\u0000b"'),
    "raw NUL": _with('"sub_id": "a\0b"'),
    "NUL in a name": _with(r'"a\u0000b": 1'),
    "surrogate in a name": _with(r'"\ud800": 1'),
    "NaN": _with('"all_in_apr_pct": NaN'),
    "Infinity": _with('"attributes": {"a": -Infinity}'),
    "infinite exponent": _with('"attributes": {"a": 1e999}'),
    "5000 digits": _with('"attributes": {"a": ' + "9" * 5_000 + "}"),
    "400 digits": _with('"attributes": {"a": ' + "9" * 400 + "}"),
    "int past 64 bits": _with('"attributes": {"a": 18446744073709551616}'),
    "leading zero": _with('"attributes": {"a": 01}'),
    "comment": b"/* */" + json.dumps(_EXAMPLE).encode(),
    "trailing comma": json.dumps(_EXAMPLE).encode()[:-1] + b",}",
    "unknown field": _with(f'"{PLANTED}": "{PLANTED}"'),
    "many unknown fields": _with(", ".join(f'"{PLANTED}{n}": 1' for n in range(1_000))),
    "many attributes": _with('"attributes": {' + ", ".join(f'"a{n}": 1' for n in range(65)) + "}"),
    "NaN behind a duplicate": _with('"amount": NaN, "amount": 5000000'),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_body_is_a_422_that_repeats_nothing(gate: Service, name: str) -> None:
    async with gate.client("origination") as client:
        answer = await client.post(PATH, content=WRONG[name], headers={"content-type": "application/json"})
    check(answer)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"]


async def test_a_body_of_ten_megabytes_is_a_413(gate: Service) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(160):
            yield b" " * 65_536

    async with gate.client("origination") as client:
        for content in (b" " * 10_485_760, pieces()):
            answer = await client.post(PATH, content=content)
            check(answer)
            assert answer.status_code == 413


async def test_the_limit_is_of_bytes_and_its_last_byte_is_allowed(gate: Service) -> None:
    limit = gate.app.gate.settings.body_limit_bytes
    body = json.dumps(application("limit")).encode()
    async with gate.client("origination") as client:
        assert (await client.post(PATH, content=body.ljust(limit))).status_code == 200
        assert (await client.post(PATH, content=body.ljust(limit + 1))).status_code == 413


async def test_a_body_in_pieces_is_the_same_body(gate: Service) -> None:
    body = json.dumps(application("pieces")).encode()

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 11):
            yield body[start : start + 11]
            yield b""

    async with gate.client("origination") as client:
        whole, parts = await client.post(PATH, content=body), await client.post(PATH, content=pieces())
    assert (parts.status_code, parts.content) == (200, whole.content)


async def test_a_zipped_body_is_a_415(gate: Service) -> None:
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    async with gate.client("origination") as client:
        answer = await client.post(PATH, content=gzip.compress(b" " * 10_000_000), headers=headers)
    check(answer)
    assert answer.status_code == 415


# Two readers of one body ----------------------------------------------------------------------------------------------
# The schema reads the body with one parser, the fingerprint and the stored input with another. What is decided must be
# what is stored, or a replay would decide something else and two different requests could pass for one.

NUMBERS = st.one_of(
    st.integers(min_value=-(10**19), max_value=10**20).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**20), max_value=10**20).map(str),
    st.from_regex(r"-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,24})?([eE][+-]?[0-9]{1,2})?", fullmatch=True),
)


def _both(body: bytes) -> tuple[LoanApplication, LoanApplication] | None:
    """The application as it is decided, and as a replay reads it from what was kept. None: refused."""
    try:
        payload = PAYLOAD.validate_json(body)
        kept = receive(body).input
        decided = read_application(payload, _POLICY)
    except (ValidationError, DomainError, orjson.JSONDecodeError):
        return None
    return decided, read_application(PAYLOAD.validate_json(kept), _POLICY)


@settings(max_examples=400, **_CALM)
@example(name="all_in_apr_pct", first="18.5", second="18.500000000000000001")
@example(name="amount", first="5000000", second="5000000.0")
@given(
    name=st.sampled_from(["amount", "term_months", "all_in_apr_pct", r"\u0061mount", "revision"]),
    first=NUMBERS,
    second=NUMBERS,
)
def test_of_two_equal_names_one_is_decided_and_the_same_one_is_kept(name: str, first: str, second: str) -> None:
    read = _both(_with(f'"{name}": {first}, "{name}": {second}'))
    if read is not None:
        assert read[0] == read[1]


@settings(max_examples=300, **_CALM)
@given(body=mutated())
def test_what_is_kept_is_what_was_decided(body: bytes) -> None:
    read = _both(body)
    if read is not None:
        assert read[0] == read[1]


@pytest.mark.parametrize("section", ["applicant", "bureau"])
async def test_of_two_equal_sections_the_last_is_decided_and_stored(gate: Service, section: str) -> None:
    """Both parsers take the last one; were they to differ, a decision could rest on what nobody can find any more."""
    body = json.dumps(application(f"twice-{section}")).encode()[:-1] + f', "{section}": {{}}}}'.encode()
    plain = json.dumps(application(f"twice-{section}") | {section: {}}).encode()
    async with gate.client("origination") as client:
        twice, once = await client.post(PATH, content=body), await client.post(PATH, content=plain)
    assert twice.status_code == 200
    assert once.content == twice.content
    assert twice.json()["outcome"] == "escalate"
    async with gate.client("analyst") as client:
        stored = (await client.get(f"{PATH}/{twice.json()['decision_id']}")).json()["input"]
    assert stored[section] == {}


async def test_a_request_id_is_the_only_thing_of_a_request_that_a_problem_repeats(gate: Service) -> None:
    async with gate.client("origination") as client:
        answer = await client.post(PATH, content=WRONG["unknown field"], headers={"x-request-id": "mine-1"})
        odd = await client.post(PATH, content=WRONG["unknown field"], headers={"x-request-id": PLANTED + " <b>"})
    assert answer.json()["instance"] == "urn:channel-gate:request:mine-1"
    assert PLANTED not in odd.text + str(odd.headers)
    assert re.fullmatch(r"[0-9a-f-]{36}", odd.headers["x-request-id"])
