"""Who is let in: credentials, roles and rates, over FastAPI and over bare ASGI."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI

from app.api.auth import SECURITY_REQUIREMENT, admit, originator_of, require, security_schemes
from app.api.error_map import install_error_handlers
from app.api.problems import Problem, ProblemType
from app.api.security_headers import http_middleware
from app.identities.keys import KeyRing
from app.identities.oidc import OidcConfig, OidcVerifier
from app.identities.principal import OriginatorId, Principal, Role
from app.identities.rate_limit import RateLimiter
from tests.identities.issuer import AUDIENCE, Issuer, SigningKey

NOW = datetime.now(UTC)
SECRET = "a" * 43


def key_row(key_id: str, *roles: str, **changes: Any) -> dict[str, Any]:
    return {
        "key_id": key_id,
        "originator_id": 7,
        "originator_code": "alpha",
        "person_id": None,
        "secret_hash": sha256(SECRET.encode()).digest(),
        "roles": list(roles),
        "rate_limit_per_second": None,
        "expires_at": None,
        "revoked_at": None,
        **changes,
    }


ROWS = [
    key_row("sender", "origination"),
    key_row("admin", "admin", originator_id=None, originator_code=None),
    key_row("slow", "origination", rate_limit_per_second=1),
    key_row("past", "origination", expires_at=NOW - timedelta(days=1)),
    key_row("gone", "origination", revoked_at=NOW - timedelta(days=1)),
]


class Gate:
    """The state of a worker, without a database."""

    def __init__(self, oidc: OidcVerifier | None = None) -> None:
        self.oidc = oidc
        self.clock = 0.0
        self.limiter = RateLimiter(default_per_second=100, live_workers=lambda: 1, clock=lambda: self.clock)
        self._ring = KeyRing.from_rows(ROWS)

    def keyring(self) -> KeyRing:
        return self._ring


def bearer(key_id: str, secret: str = SECRET) -> dict[str, str]:
    return {"Authorization": f"Bearer cgk_{key_id}_{secret}"}


def make_app(gate: Gate) -> FastAPI:
    app = FastAPI(middleware=http_middleware(body_limit_bytes=1_000))
    app.state.gate = gate
    install_error_handlers(app)

    @app.get("/whoami")
    async def whoami(caller: Annotated[Principal, Depends(require())]) -> dict[str, Any]:
        return {"subject": caller.subject, "originator": caller.originator_code}

    @app.get("/send", dependencies=[Depends(require(Role.ORIGINATION, Role.ADMIN))])
    async def send(caller: Annotated[Principal, Depends(require(Role.ORIGINATION))]) -> dict[str, int]:
        return {"originator": originator_of(caller)}

    return app


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with Issuer(SigningKey("ES256", "first")) as running:
        yield running


@pytest.fixture
async def gate(issuer: Issuer) -> AsyncIterator[Gate]:
    async with httpx.AsyncClient() as http:
        config = OidcConfig(issuer=issuer.url, audience=AUDIENCE, jwks_url=issuer.jwks_url)
        verifier = OidcVerifier(config, http=http, originators={"alpha": OriginatorId(7)}.get)
        yield Gate(verifier)
        await verifier.close()


@pytest.fixture
async def client(gate: Gate) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(make_app(gate)), base_url="http://gate") as made:
        yield made


async def test_key_opens_what_its_role_opens(client: httpx.AsyncClient) -> None:
    answer = await client.get("/send", headers=bearer("sender"))
    assert (answer.status_code, answer.json()) == (200, {"originator": 7})


async def test_missing_credential_is_challenged_without_an_error_code(client: httpx.AsyncClient) -> None:
    answer = await client.get("/send")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="channel-gate"'
    assert answer.json()["type"] == ProblemType.UNAUTHENTICATED.uri


@pytest.mark.parametrize(
    ("headers", "detail"),
    [
        (bearer("sender", "wrong"), "The credential is not valid."),
        (bearer("nobody"), "The credential is not valid."),
        (bearer("past"), "The credential has expired."),
        (bearer("gone"), "The credential has been revoked."),
        (bearer("gone", "wrong"), "The credential is not valid."),
        ({"Authorization": "Bearer a.b.c"}, "The credential is not valid."),
        ({"Authorization": "Basic YTpi"}, "The credential is not valid."),
    ],
)
async def test_credential_that_does_not_hold_is_a_401(
    client: httpx.AsyncClient, headers: dict[str, str], detail: str
) -> None:
    answer = await client.get("/send", headers=headers)
    assert (answer.status_code, answer.json()["detail"]) == (401, detail)
    assert answer.headers["www-authenticate"] == (
        f'Bearer realm="channel-gate", error="invalid_token", error_description="{detail}"'
    )
    assert headers["Authorization"].split("_")[-1] not in answer.text


async def test_two_authorization_headers_are_refused(client: httpx.AsyncClient) -> None:
    both = [("Authorization", bearer("sender")["Authorization"]), ("Authorization", "Basic YTpi")]
    assert (await client.get("/send", headers=both)).status_code == 401


async def test_missing_role_is_a_403_that_names_the_roles(client: httpx.AsyncClient) -> None:
    answer = await client.get("/send", headers=bearer("admin"))
    assert answer.status_code == 403
    assert answer.json()["detail"] == "This takes one of the roles: origination."
    assert answer.headers["www-authenticate"] == (
        'Bearer realm="channel-gate", error="insufficient_scope", scope="origination"'
    )
    assert (await client.get("/whoami", headers=bearer("admin"))).status_code == 200


async def test_token_of_a_person_is_accepted_beside_keys(client: httpx.AsyncClient, issuer: Issuer) -> None:
    answer = await client.get("/whoami", headers={"Authorization": f"Bearer {issuer.token()}"})
    assert answer.json()["subject"] == f"{issuer.url}|person-7"
    refused = await client.get("/send", headers={"Authorization": f"Bearer {issuer.token()}"})
    assert refused.status_code == 403


async def test_machine_token_acts_for_its_originator(client: httpx.AsyncClient, issuer: Issuer) -> None:
    token = issuer.token(roles=["origination"], originator="alpha")
    answer = await client.get("/send", headers={"Authorization": f"Bearer {token}"})
    assert answer.json() == {"originator": 7}


async def test_role_without_an_originator_is_a_403(client: httpx.AsyncClient, issuer: Issuer) -> None:
    for claims in ({}, {"originator": "beta"}):
        token = issuer.token(roles=["origination"], **claims)
        answer = await client.get("/send", headers={"Authorization": f"Bearer {token}"})
        assert answer.json()["type"] == ProblemType.FORBIDDEN.uri


async def test_token_is_no_credential_where_no_issuer_is_configured(issuer: Issuer) -> None:
    transport = httpx.ASGITransport(make_app(Gate()))
    async with httpx.AsyncClient(transport=transport, base_url="http://gate") as client:
        answer = await client.get("/whoami", headers={"Authorization": f"Bearer {issuer.token()}"})
        assert answer.status_code == 401
        assert (await client.get("/whoami", headers=bearer("admin"))).status_code == 200


async def test_issuer_that_is_away_stops_tokens_and_not_keys(client: httpx.AsyncClient, issuer: Issuer) -> None:
    issuer.status = 503
    try:
        answer = await client.get("/whoami", headers={"Authorization": f"Bearer {issuer.token()}"})
    finally:
        issuer.status = 200
    assert answer.status_code == 503
    assert answer.json()["type"] == ProblemType.IDENTITY_PROVIDER_UNAVAILABLE.uri
    assert int(answer.headers["retry-after"]) >= 1
    assert (await client.get("/whoami", headers=bearer("sender"))).status_code == 200


async def test_caller_over_its_rate_gets_a_429(client: httpx.AsyncClient, gate: Gate) -> None:
    statuses = [(await client.get("/send", headers=bearer("slow"))).status_code for _ in range(3)]
    assert statuses == [200, 429, 429]
    answer = await client.get("/send", headers=bearer("slow"))
    assert answer.headers["retry-after"] == "1"
    assert (await client.get("/send", headers=bearer("sender"))).status_code == 200
    gate.clock += 1.0
    assert (await client.get("/send", headers=bearer("slow"))).status_code == 200


async def test_bare_route_admits_by_the_same_rules(gate: Gate) -> None:
    headers = [(b"host", b"gate"), (b"authorization", bearer("sender")["Authorization"].encode())]
    caller = await admit(gate, headers, (Role.ORIGINATION,), NOW)
    assert caller.key_id == "sender"
    with pytest.raises(Problem) as forbidden:
        await admit(gate, headers, (Role.ADMIN, Role.ANALYST), NOW)
    assert forbidden.value.type is ProblemType.FORBIDDEN
    with pytest.raises(Problem) as missing:
        await admit(gate, [], (), NOW)
    assert missing.value.type is ProblemType.UNAUTHENTICATED


def test_openapi_says_that_either_credential_will_do() -> None:
    document = make_app(Gate()).openapi()
    assert document["paths"]["/send"]["get"]["security"] == SECURITY_REQUIREMENT
    schemes = document["components"]["securitySchemes"]
    assert schemes == security_schemes(None)
    assert {name: scheme["scheme"] for name, scheme in schemes.items()} == {"apiKey": "bearer", "bearerToken": "bearer"}
    assert security_schemes("https://issuer.example/")["bearerToken"]["openIdConnectUrl"] == (
        "https://issuer.example/.well-known/openid-configuration"
    )
