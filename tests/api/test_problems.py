"""Problems: their document, how errors become them, and that nothing that was sent comes back or reaches a log."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Iterator
from datetime import date
from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

import asyncpg
import httpx
import jsonschema
import pytest
import sqlalchemy.exc
import structlog
from fastapi import FastAPI, Header, HTTPException, Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from app.api.error_map import foreseen_problem, install_error_handlers, problem_for
from app.api.field_errors import MAX_ERRORS, field_errors, shown_place
from app.api.problems import (
    EVERY_ROUTE,
    PROBLEM_MEDIA_TYPE,
    FieldError,
    Problem,
    ProblemType,
    problem_bytes,
    problem_responses,
    problem_schemas,
    send_problem,
)
from app.api.security_headers import http_middleware
from app.domain.errors import ApplicationError, ApplicationProblem, PolicyError, PolicyProblem, UnknownChannelError
from app.journal.entry import JournalUnavailableError
from app.observability.logs import configure_logs

NAME, PHONE, CITIZEN_ID, EMAIL = "张伟 Zhang Wei", "13800138000", "110101199003078515", "zhang.wei@example.com"
PLANTED = [NAME, PHONE, CITIZEN_ID, EMAIL]
TRACES = re.compile("|".join(["张", "Zhang", r"\\u5f20", PHONE[:7], CITIZEN_ID[:7], "zhang.wei", "88231"]))


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


def refuse_with_the_value(value: str) -> str:
    if value != "ok":
        raise ValueError(f"{value} is wrong")
    return value


def refuse_in_public(value: int) -> int:
    if value % 2:
        raise PydanticCustomError("gate_even", "must be even")
    return value


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    income: int | None = Field(default=None, ge=0, le=1_000)
    ratio: float | bool | None = None
    code: str = Field(default="A", pattern=r"^[A-Z]+$")
    birth_date: date | None = None
    reference: UUID | None = None
    employment: Literal["permanent", "other"] | None = None
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] | None = None
    checked: Annotated[str, AfterValidator(refuse_with_the_value)] = "ok"
    even: Annotated[int, AfterValidator(refuse_in_public)] = 2
    scores: dict[str, int] | None = None
    items: list[int] = Field(default=[], max_length=2)


def make_app() -> FastAPI:
    app = FastAPI(middleware=http_middleware(body_limit_bytes=100_000))
    install_error_handlers(app)

    @app.post("/apply")
    async def apply(body: Body) -> dict[str, str]:
        return {"outcome": "accept"}

    @app.get("/people/{number}")
    async def person(
        number: int, page: Annotated[int, Query(ge=1)] = 1, x_score: Annotated[int, Header()] = 0
    ) -> dict[str, str]:
        raise UnknownChannelError

    @app.get("/faults/{kind}", response_model=Body)
    async def fault(kind: str) -> Any:
        match kind:
            case "plain":
                raise RuntimeError(f"cannot decide for {NAME}, {CITIZEN_ID}")
            case "chained":
                try:
                    int(PHONE + "x")
                except ValueError as error:
                    raise LookupError(EMAIL) from error
            case "driver":
                raise asyncpg.DataError(f'invalid input syntax for type integer: "{CITIZEN_ID}"')
            case "response":
                return {"income": NAME, "scores": {PHONE: EMAIL}}
            case "group":
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(_raise(RuntimeError(NAME)))
            case _:
                raise HTTPException(404, detail=f"no {NAME} here", headers={"X-Kept": "yes"})
        return None

    return app


async def _raise(error: Exception) -> None:
    raise error


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(make_app()), base_url="http://gate") as made:
        yield made


@pytest.fixture
def log_lines(capfd: pytest.CaptureFixture[str]) -> Iterator[pytest.CaptureFixture[str]]:
    """The logs of the service as they are in production, at their most talkative."""
    root = logging.getLogger()
    before = (root.handlers, root.level)
    configure_logs(level="debug")
    yield capfd
    root.handlers, root.level = before
    structlog.reset_defaults()
    for name in ("uvicorn.access", "httpx", "httpcore"):
        logging.getLogger(name).disabled = False


def problem_of(answer: httpx.Response) -> dict[str, Any]:
    assert answer.headers["content-type"] == PROBLEM_MEDIA_TYPE
    document = answer.json()
    jsonschema.validate(document, openapi_schema())
    assert document["status"] == answer.status_code
    assert document["instance"] == f"urn:channel-gate:request:{answer.headers['x-request-id']}"
    return dict(document)


def openapi_schema() -> dict[str, Any]:
    """The published schema, as one that validates by itself."""
    text = json.dumps(problem_schemas()).replace("#/components/schemas/", "#/$defs/")
    return {"$ref": "#/$defs/Problem", "$defs": json.loads(text)}


class Pet(StrEnum):
    CAT = "cat"
    DOG = "dog"
    EMU = "emu"


@pytest.mark.parametrize(
    ("choice", "detail"),
    [
        (Literal[Pet.CAT, Pet.EMU], "must be one of 'cat' or 'emu'"),
        (Literal[Pet.CAT], "must be one of 'cat'"),
        (Pet, "must be one of 'cat', 'dog' or 'emu'"),
        (Literal["cat", "emu"], "must be one of 'cat' or 'emu'"),
    ],
)
def test_choices_are_told_as_they_are_sent(choice: Any, detail: str) -> None:
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(choice).validate_python("dragon")
    assert [error.detail for error in field_errors(refused.value.errors())] == [detail]


def test_slugs_are_unique_and_statuses_are_errors() -> None:
    assert len({each.slug for each in ProblemType}) == len(ProblemType)
    assert all(400 <= each.status < 600 for each in ProblemType)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", each.slug) for each in ProblemType)


def test_document_holds_what_rfc_9457_names() -> None:
    problem = Problem(
        ProblemType.INVALID_POLICY,
        "Two rows are wrong.",
        errors=[FieldError(pointer="", detail="is missing", row="BU03", column="risk")],
        extensions={"policy_version": 7, "status": 200},
    )
    document = json.loads(problem_bytes(problem, "request-1"))
    jsonschema.validate(document, openapi_schema())
    assert document == {
        "policy_version": 7,
        "type": "urn:channel-gate:problem:invalid-policy",
        "title": "The policy does not compile",
        "status": 422,
        "instance": "urn:channel-gate:request:request-1",
        "detail": "Two rows are wrong.",
        "errors": [{"pointer": "", "detail": "is missing", "row": "BU03", "column": "risk"}],
    }


@pytest.mark.parametrize(("seconds", "header"), [(0.01, "1"), (1.0, "1"), (1.2, "2")])
def test_retry_after_is_whole_seconds_and_never_zero(seconds: float, header: str) -> None:
    assert Problem(ProblemType.OVERLOADED, retry_after_seconds=seconds).headers["Retry-After"] == header


async def test_bare_route_answers_with_the_same_problem() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    problem = Problem(ProblemType.RATE_LIMITED, retry_after_seconds=3)
    await send_problem(send, problem, "r-1", [(b"x-request-id", b"r-1")])
    start, body = sent
    assert start["status"] == 429
    assert dict(start["headers"]) == {
        b"content-type": b"application/problem+json",
        b"content-length": str(len(body["body"])).encode(),
        b"retry-after": b"3",
        b"x-request-id": b"r-1",
    }
    assert body["body"] == problem_bytes(problem, "r-1")


def test_responses_of_a_route_list_its_problems_with_those_of_every_route() -> None:
    responses = problem_responses(ProblemType.UNKNOWN_CHANNEL, ProblemType.CONFLICT)
    assert set(responses) == {each.status for each in EVERY_ROUTE} | {409}
    examples = responses[422]["content"][PROBLEM_MEDIA_TYPE]["examples"]
    assert set(examples) == {"invalid-request", "unknown-channel"}
    for response in responses.values():
        for example in response["content"][PROBLEM_MEDIA_TYPE]["examples"].values():
            jsonschema.validate(example["value"], openapi_schema())


async def test_bad_body_is_pointed_at(client: httpx.AsyncClient) -> None:
    answer = await client.post(
        "/apply", json={"income": -1, "code": "a", "birth_date": "x", "items": [1, "b"], "even": 3, "nane": 1}
    )
    document = problem_of(answer)
    assert answer.status_code == 422
    assert document["type"] == "urn:channel-gate:problem:invalid-request"
    assert document["errors"] == [
        {"pointer": "/income", "detail": "must be at least 0"},
        {"pointer": "/code", "detail": "must match ^[A-Z]+$"},
        {"pointer": "/birth_date", "detail": "must be a date (YYYY-MM-DD)"},
        {"pointer": "/even", "detail": "must be even"},
        {"pointer": "/items/1", "detail": "must be a whole number"},
        {"pointer": "/nane", "detail": "is not a known field"},
    ]


async def test_bad_parameters_are_pointed_at(client: httpx.AsyncClient) -> None:
    answer = await client.get("/people/x", params={"page": 0}, headers={"x-score": "y"})
    assert problem_of(answer)["errors"] == [
        {"pointer": "#/path/number", "detail": "must be a whole number"},
        {"pointer": "#/query/page", "detail": "must be at least 1"},
        {"pointer": "#/header/x-score", "detail": "must be a whole number"},
    ]


async def test_branches_of_a_union_are_one_fault(client: httpx.AsyncClient) -> None:
    answer = await client.post("/apply", json={"ratio": "abc"})
    assert problem_of(answer)["errors"] == [{"pointer": "/ratio", "detail": "must be a number or true or false"}]


def test_errors_are_bounded() -> None:
    with pytest.raises(ValidationError) as raised:
        TypeAdapter(dict[str, int]).validate_python({f"f{number}": "x" for number in range(500)})
    assert len(field_errors(raised.value.errors())) == MAX_ERRORS


def test_name_that_does_not_look_like_one_of_the_schema_is_not_repeated() -> None:
    with pytest.raises(ValidationError) as raised:
        Body.model_validate({"max_dpd_12m": 1, PHONE: 1, NAME: 2, EMAIL: 3, "zhang wei": 4})
    assert [each.pointer for each in field_errors(raised.value.errors())] == ["/max_dpd_12m", ""]


@pytest.mark.parametrize(
    "place", ["", "BU03", "products.small_business", "when[12].field", "thresholds.prime", "rules[1024]"]
)
def test_place_in_a_policy_is_shown(place: str) -> None:
    assert shown_place(place) == place


@pytest.mark.parametrize("place", [*PLANTED, f"products.{PHONE}", "a" * 200, "Zhang Wei", "1"])
def test_place_that_may_be_somebodys_data_is_not_shown(place: str) -> None:
    assert place not in shown_place(place)


BAD_BODIES: list[Any] = [
    *({field: value} for field in Body.model_fields for value in (NAME, CITIZEN_ID, EMAIL, [PHONE], {PHONE: NAME})),
    *({value: 1} for value in PLANTED),
    {"income": 88231.57},
    {"income": -8823157},
    {"pet": {"kind": NAME}},
    {"reference": CITIZEN_ID + "-" + PHONE},
    {"scores": {NAME: EMAIL, PHONE: 1.5}},
    [NAME],
    NAME,
]
RAW_BODIES = [
    f'{{"income": {PHONE}x}}'.encode(),
    f'{{"{CITIZEN_ID}": '.encode(),
    f"{NAME} <{EMAIL}>".encode(),
    b'{"code": "\xff\xfe' + PHONE.encode() + b'"}',
    b'{"code": "\\ud800' + PHONE.encode() + b'"}',
    b"[" * 5_000 + PHONE.encode(),
]


async def test_no_answer_and_no_log_line_repeats_what_was_sent(
    client: httpx.AsyncClient, log_lines: pytest.CaptureFixture[str]
) -> None:
    answers = [await client.post("/apply", json=body) for body in BAD_BODIES]
    json_type = {"content-type": "application/json"}
    answers += [await client.post("/apply", content=body, headers=json_type) for body in RAW_BODIES]
    answers.append(await client.post("/apply", content=NAME.encode(), headers={"content-type": "text/plain"}))
    answers += [await client.get(f"/people/{value}", params={"page": value}) for value in PLANTED]
    answers.append(await client.get("/people/1", headers={"x-score": CITIZEN_ID + EMAIL}))
    answers += [await client.get(f"/{value}/{value}") for value in PLANTED]
    answers.append(await client.request(PHONE, "/apply"))
    answers += [
        await client.get(f"/faults/{kind}") for kind in ("plain", "chained", "driver", "response", "group", "x")
    ]
    told = log_lines.readouterr()
    refused = [answer for answer in answers if answer.status_code != 200]
    assert len(refused) > 70
    for answer in refused:
        problem_of(answer)
        assert not TRACES.search(answer.text), answer.text
        assert not TRACES.search(str(answer.headers))
    assert told.err.count("request_failed") == 5
    assert not TRACES.search(told.err + told.out)


async def test_fault_is_a_500_whose_request_id_finds_its_place_in_the_log(
    client: httpx.AsyncClient, log_lines: pytest.CaptureFixture[str]
) -> None:
    answer = await client.get("/faults/plain", headers={"x-request-id": "find-me"})
    document = problem_of(answer)
    assert (answer.status_code, document["title"], "detail" in document) == (500, "Internal error", False)
    line = json.loads(log_lines.readouterr().err.splitlines()[-1])
    assert (line["event"], line["request_id"], line["error_type"]) == (
        "request_failed",
        "find-me",
        "builtins.RuntimeError",
    )
    assert "test_problems.py" in line["error_at"]


async def test_framework_errors_keep_their_headers_and_lose_their_words(client: httpx.AsyncClient) -> None:
    answer = await client.get("/faults/other")
    assert (answer.status_code, answer.headers["x-kept"]) == (404, "yes")
    assert problem_of(answer)["title"] == "Not found"
    wrong_method = await client.put("/apply")
    assert wrong_method.status_code == 405
    assert wrong_method.headers["allow"] == "POST"
    assert problem_of(wrong_method)["type"] == ProblemType.METHOD_NOT_ALLOWED.uri


def test_domain_errors_become_the_problems_of_the_table() -> None:
    application = foreseen_problem(ApplicationError((ApplicationProblem(pointer="/amount", detail="is too small"),)))
    assert application is not None
    assert application.type is ProblemType.INVALID_REQUEST
    assert application.errors == (FieldError(pointer="/amount", detail="is too small"),)
    policy = foreseen_problem(PolicyError((PolicyProblem(row="BU03", column="risk", detail="is missing"),)))
    assert policy is not None
    assert policy.errors == (FieldError(pointer="", detail="is missing", row="BU03", column="risk"),)
    journal = foreseen_problem(JournalUnavailableError("the decision log is away", retry_after_seconds=4))
    assert journal is not None
    assert (journal.status, journal.headers["Retry-After"]) == (503, "4")


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.CannotConnectNowError("the database system is starting up"),
        asyncpg.TooManyConnectionsError("too many clients"),
        asyncpg.QueryCanceledError("statement timeout"),
        asyncpg.DeadlockDetectedError("deadlock detected"),
        asyncpg.InterfaceError("connection is closed"),
        sqlalchemy.exc.TimeoutError("QueuePool limit"),
        sqlalchemy.exc.OperationalError("SELECT 1", {}, OSError()),
        ConnectionRefusedError(),
        TimeoutError(),
    ],
)
def test_database_that_is_away_is_a_503_with_retry_after(error: Exception) -> None:
    problem = foreseen_problem(error)
    assert problem is not None
    assert problem.type is ProblemType.DATABASE_UNAVAILABLE
    assert problem.headers["Retry-After"] == "1"


@pytest.mark.parametrize(
    "error", [asyncpg.UndefinedTableError("x"), asyncpg.DataError("x"), FileNotFoundError(), KeyError(), ValueError()]
)
def test_errors_of_ours_are_faults(error: Exception) -> None:
    assert foreseen_problem(error) is None


def test_bare_route_answers_a_body_that_pydantic_refuses() -> None:
    for body, pointer in ((b'{"income": "' + PHONE.encode() + b'x"}', "/income"), (PHONE.encode() + b"{", "")):
        with pytest.raises(ValidationError) as raised:
            Body.model_validate_json(body)
        problem = problem_for(raised.value, "r-1")
        assert problem.type is ProblemType.INVALID_REQUEST
        assert [error.pointer for error in problem.errors] == [pointer]
        assert PHONE not in problem_bytes(problem, "r-1").decode()
