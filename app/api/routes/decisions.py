"""Decisions as they are read back: by id, by application, as a list, and in words.

An origination caller reads its own originator's decisions, as they were answered. Analysts, reviewers and admins read
everything that is stored; who of them belongs to an originator reads that one's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, Header, Path, Query, Request
from fastapi.responses import Response
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection

from app.api.auth import originator_of, require
from app.api.languages import CONTENT_LANGUAGES, negotiate_language
from app.api.problems import FieldError, Problem, ProblemType, problem_responses
from app.api.runtime import Runtime
from app.api.schemas import decision_examples as examples
from app.api.schemas.decisions import (
    DecisionDetail,
    DecisionDocument,
    DecisionPage,
    DecisionQuery,
    ExplanationDocument,
)
from app.domain.application import MAX_REVISIONS
from app.domain.compiled import CompiledPolicy
from app.domain.errors import PolicyError
from app.identities.principal import Principal, Role
from app.journal.cursor import CursorError
from app.journal.reader import (
    DecisionFilter,
    Page,
    StoredDecision,
    decision_by_id,
    decision_of_application,
    list_decisions,
)
from app.screening.explanation import explain
from app.screening.payload import Code, Identifier
from app.screening.policy_library import PolicyLibrary, UnknownVersionError
from app.screening.stored_views import detail_document, summary_document, tier_evidence

WHOLE_VIEW_ROLES = frozenset({Role.ANALYST, Role.REVIEWER, Role.ADMIN})
"""Who sees thresholds, observed values and confidential codes."""
READING_ROLES = (Role.ORIGINATION, *sorted(WHOLE_VIEW_ROLES))

_JSON = "application/json"
_VARY = "Authorization"
_NOT_FOUND = problem_responses(ProblemType.NOT_FOUND)

router = APIRouter(tags=["decisions"])

Caller = Annotated[Principal, Depends(require(*READING_ROLES))]
DecisionId = Annotated[UUID, Path(description="`decision_id` of the answer.")]


def _library(request: Request) -> PolicyLibrary:
    """The compiled policies that this worker has read for its readers."""
    state = request.app.state
    if not hasattr(state, "policy_library"):
        state.policy_library = PolicyLibrary()
    library: PolicyLibrary = state.policy_library
    return library


Library = Annotated[PolicyLibrary, Depends(_library)]


def _described(description: str, model: Any, shown: Mapping[str, Any]) -> dict[str, Any]:
    named = {name: {"summary": name.replace("_", " ").capitalize(), "value": value} for name, value in shown.items()}
    return {"model": model, "description": description, "content": {_JSON: {"examples": named}}}


_ONE = _described(
    "As it was answered, byte for byte, for origination; all that is stored of it for analysts, reviewers and admins.",
    DecisionDocument | DecisionDetail,
    {"for_origination": examples.DECISION, "for_analysts": examples.DETAIL},
)


@router.get(
    "/v1/decisions",
    summary="List decisions",
    operation_id="list_decisions",
    response_model=None,
    responses={
        **problem_responses(),
        200: _described(
            "Newest first. Answers for origination; rows for analysts, reviewers and admins.",
            DecisionPage,
            {"for_origination": examples.PAGE, "for_analysts": examples.SUMMARY_PAGE},
        ),
    },
)
async def read_list(
    request: Request, caller: Caller, library: Library, query: Annotated[DecisionQuery, Query()]
) -> Response:
    """Filters narrow the list together. `next_cursor` continues it under the same filters and is not moved by new rows.

    Without an originator of its own an analyst, reviewer or admin sees every originator's decisions.
    """
    whole, own = _view(caller)
    originator_id, reachable = _originator(request, own, query.originator)
    wanted = DecisionFilter(
        originator_id=originator_id,
        channel_code=query.channel,
        outcome=query.outcome,
        next_action=query.next_action,
        tier=query.tier,
        product=query.product,
        policy_version=query.policy_version,
        reason_code=query.reason_code,
        decided_from=query.decided_from,
        decided_to=query.decided_to,
    )
    async with _connection(request) as connection:
        if query.reason_code is not None and not whole:
            # Otherwise the filter would tell which decisions a confidential rule had a part in.
            reachable = reachable and query.reason_code not in await library.confidential_codes(connection)
        try:
            page = await list_decisions(connection, wanted, limit=query.limit, cursor=query.cursor)
        except CursorError as error:
            fault = FieldError(pointer="#/query/cursor", detail=str(error))
            raise Problem(ProblemType.INVALID_REQUEST, errors=[fault]) from None
    if not reachable:
        page = Page(decisions=(), next_cursor=None)
    items: Iterable[Any] = (
        (summary_document(found.summary) for found in page.decisions)
        if whole
        else (orjson.Fragment(found.response) for found in page.decisions)
    )
    return _answer({"items": list(items), "next_cursor": page.next_cursor})


@router.get(
    "/v1/decisions/{decision_id:uuid}",
    summary="Read a decision",
    response_model=None,
    responses={**_NOT_FOUND, 200: _ONE},
)
async def read_decision(request: Request, caller: Caller, library: Library, decision_id: DecisionId) -> Response:
    """Another originator's decision is not found."""
    whole, own = _view(caller)
    async with _connection(request) as connection:
        stored = _found(await decision_by_id(connection, decision_id, originator_id=own))
        return await _decision(connection, library, stored, whole=whole)


@router.get(
    "/v1/applications/{application_id:path}/revisions/{revision}/decision",
    summary="Read the decision on an application",
    response_model=None,
    responses={**_NOT_FOUND, 200: _ONE},
)
async def read_decision_of_application(
    *,
    request: Request,
    caller: Caller,
    library: Library,
    application_id: Annotated[Identifier, Path(description="As it was sent; a slash is written as %2F.")],
    revision: Annotated[
        Literal["latest"] | Annotated[int, Field(ge=1, le=MAX_REVISIONS)],
        Path(description="The revision, or `latest` for the newest one that was decided."),
    ],
    originator: Annotated[
        Code | None, Query(description="Code of the originator; needed where the caller belongs to none.")
    ] = None,
) -> Response:
    """Application ids are unique within an originator."""
    whole, own = _view(caller)
    originator_id, reachable = _originator(request, own, originator)
    if originator_id is None and reachable:
        fault = FieldError(pointer="#/query/originator", detail="is required, because the caller belongs to none")
        raise Problem(ProblemType.INVALID_REQUEST, errors=[fault])
    if originator_id is None or not reachable:
        raise Problem(ProblemType.NOT_FOUND)
    async with _connection(request) as connection:
        stored = _found(
            await decision_of_application(
                connection,
                originator_id=originator_id,
                application_id=application_id,
                revision=None if revision == "latest" else revision,
            )
        )
        return await _decision(connection, library, stored, whole=whole)


@router.get(
    "/v1/decisions/{decision_id:uuid}/explanation",
    summary="Explain a decision",
    response_model=None,
    responses={
        **_NOT_FOUND,
        200: _described(
            "The decision in words, in English or Chinese.",
            ExplanationDocument,
            {"for_origination": examples.EXPLANATION, "for_analysts": examples.WHOLE_EXPLANATION},
        )
        | {
            "headers": {
                "Content-Language": {
                    "description": "`en` or `zh-CN`.",
                    "schema": {"type": "string", "enum": list(CONTENT_LANGUAGES.values())},
                },
                "Vary": {"description": "The answer depends on these.", "schema": {"type": "string"}},
            }
        },
    },
)
async def read_explanation(
    request: Request,
    caller: Caller,
    library: Library,
    decision_id: DecisionId,
    accept_language: Annotated[
        str | None,
        Header(description="Which of English and Chinese is preferred; English where neither.", examples=["zh-CN, en"]),
    ] = None,
) -> Response:
    """Principal reasons with whose data they rest on, the caps of the ceiling, the counter-offer, and the rights."""
    whole, own = _view(caller)
    language = negotiate_language(accept_language)
    async with _connection(request) as connection:
        stored = _found(await decision_by_id(connection, decision_id, originator_id=own))
        policy = await _policy(connection, library, stored)
    tier = None if policy is None else policy.tiers.get(stored.summary.tier)
    document = explain(stored, language, whole=whole, tier_name=None if tier is None else tier.name)
    headers = {"Content-Language": CONTENT_LANGUAGES[language], "Vary": f"Accept-Language, {_VARY}"}
    return _answer(document, headers)


def _view(caller: Principal) -> tuple[bool, int | None]:
    """Whether the caller sees everything of a decision, and the originator that it is confined to.

    Raises:
        Problem: forbidden, for an origination caller without an originator.
    """
    whole = caller.has_any(WHOLE_VIEW_ROLES)
    return whole, caller.originator_id if whole else originator_of(caller)


def _originator(request: Request, own: int | None, code: str | None) -> tuple[int | None, bool]:
    """The originator asked for, and whether there is one that the caller may reach. None and True: all of them."""
    if code is None:
        return own, True
    gate: Runtime = request.app.state.gate
    asked = gate.keeper.latest.originators.get(code)
    return asked, asked is not None and own in {None, asked}


def _connection(request: Request) -> Any:
    gate: Runtime = request.app.state.gate
    return gate.read_engine.connect()


def _found(stored: StoredDecision | None) -> StoredDecision:
    if stored is None:
        raise Problem(ProblemType.NOT_FOUND)
    return stored


async def _policy(connection: AsyncConnection, library: PolicyLibrary, stored: StoredDecision) -> CompiledPolicy | None:
    try:
        return await library.policy(connection, stored.summary.policy_version)
    except (UnknownVersionError, PolicyError):
        return None


async def _decision(
    connection: AsyncConnection, library: PolicyLibrary, stored: StoredDecision, *, whole: bool
) -> Response:
    if not whole:
        return Response(stored.response, media_type=_JSON, headers={"Vary": _VARY})
    policy = await _policy(connection, library, stored)
    return _answer(detail_document(stored, None if policy is None else tier_evidence(policy, stored)))


def _answer(document: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(document), media_type=_JSON, headers=dict(headers or {"Vary": _VARY}))
