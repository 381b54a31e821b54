"""Who may call: the credential of a request, its roles and its rate, for FastAPI routes and for bare ASGI ones.

Errors say `WWW-Authenticate` as RFC 6750 has it. A refused credential is told apart only for who holds its secret.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Protocol

from fastapi import Depends, Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase

from app.api.problems import Problem, ProblemType
from app.identities.keys import KeyRing
from app.identities.oidc import OidcVerifier
from app.identities.principal import OriginatorId, Principal, Refusal, Role
from app.identities.rate_limit import RateLimiter
from app.observability import metrics

REALM = 'Bearer realm="channel-gate"'

_DETAILS = {
    Refusal.MISSING: "Send an API key or a token as `Authorization: Bearer <credential>`.",
    Refusal.NOT_A_KEY: "The credential is neither an API key nor a token that this service accepts.",
    Refusal.INVALID: "The credential is not valid.",
    Refusal.EXPIRED: "The credential has expired.",
    Refusal.REVOKED: "The credential has been revoked.",
}


class GateState(Protocol):
    """What the edge needs to know about callers; `app.state.gate` of the application has it."""

    @property
    def oidc(self) -> OidcVerifier | None:
        """None where only API keys are accepted."""

    @property
    def limiter(self) -> RateLimiter:
        """The limiter of this worker."""

    def keyring(self) -> KeyRing:
        """The keys of the current snapshot."""


def authorization_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The value of the Authorization header.

    Raises:
        Problem: unauthenticated, where there are two: a proxy may have checked the other one.
    """
    found: bytes | None = None
    for name, value in headers:
        if name == b"authorization":
            if found is not None:
                raise refused(Refusal.INVALID)
            found = value
    return found


async def admit(
    gate: GateState, headers: Iterable[tuple[bytes, bytes]], roles: Collection[Role], now: datetime
) -> Principal:
    """The caller of a request with these ASGI headers, who holds one of `roles` (none: any) and is within its rate.

    Raises:
        Problem: unauthenticated, forbidden or rate-limited.
        IdentityProviderUnavailableError: where a token cannot be checked now; API keys never need it.
    """
    authorization = authorization_of(headers)
    if not authorization:
        raise refused(Refusal.MISSING)
    caller = gate.keyring().authenticate(authorization, now)
    if caller is Refusal.NOT_A_KEY and gate.oidc is not None:
        caller = await gate.oidc.authenticate(authorization, now)
    if isinstance(caller, Refusal):
        raise refused(caller)
    wait_seconds = gate.limiter.take(caller.subject, caller.rate_limit_per_second)
    if wait_seconds > 0.0:
        metrics.RATE_LIMITED.inc()
        raise Problem(ProblemType.RATE_LIMITED, retry_after_seconds=wait_seconds)
    if roles and not caller.has_any(roles):
        raise lacking_role(roles)
    return caller


def refused(refusal: Refusal) -> Problem:
    """The problem of a credential that was not accepted."""
    if refusal is Refusal.UNKNOWN_ORIGINATOR:
        return Problem(ProblemType.FORBIDDEN, "The token names an originator that is not registered here.")
    detail = _DETAILS[refusal]
    challenge = REALM
    if refusal is not Refusal.MISSING:
        challenge += f', error="invalid_token", error_description="{detail}"'
    return Problem(ProblemType.UNAUTHENTICATED, detail, headers={"WWW-Authenticate": challenge})


def lacking_role(roles: Collection[Role]) -> Problem:
    """The problem of a caller without any of the roles that are asked for."""
    names = sorted(role.value for role in roles)
    return Problem(
        ProblemType.FORBIDDEN,
        f"This takes one of the roles: {', '.join(names)}.",
        headers={"WWW-Authenticate": f'{REALM}, error="insufficient_scope", scope="{" ".join(names)}"'},
    )


def originator_of(caller: Principal) -> OriginatorId:
    """The originator that the caller acts for.

    Raises:
        Problem: forbidden, where the credential belongs to none.
    """
    if caller.originator_id is None:
        raise Problem(ProblemType.FORBIDDEN, "This credential belongs to no originator.")
    return caller.originator_id


class _Scheme(SecurityBase):
    """Says in the OpenAPI document how to authenticate. `require` does it."""

    def __init__(self, name: str, model: HTTPBearer) -> None:
        self.scheme_name = name
        self.model = model

    async def __call__(self) -> None:
        return None


API_KEY_SCHEME = _Scheme(
    "apiKey",
    HTTPBearer(bearerFormat="cgk_<key id>_<secret>", description="An API key, made with `channel-gate keys create`."),
)
TOKEN_SCHEME = _Scheme(
    "bearerToken",
    HTTPBearer(bearerFormat="JWT", description="An access token of the configured OpenID Connect issuer."),
)
SECURITY_REQUIREMENT: list[dict[str, list[str]]] = [
    {API_KEY_SCHEME.scheme_name: []},
    {TOKEN_SCHEME.scheme_name: []},
]
"""The `security` of a route that is described by hand: either will do."""


def security_schemes(issuer: str | None) -> dict[str, Any]:
    """The `components.securitySchemes` of the OpenAPI document; with an issuer, tokens are found by its discovery."""
    schemes: dict[str, Any] = {
        scheme.scheme_name: scheme.model.model_dump(by_alias=True, exclude_none=True, mode="json")
        for scheme in (API_KEY_SCHEME, TOKEN_SCHEME)
    }
    if issuer is not None:
        schemes[TOKEN_SCHEME.scheme_name] = {
            "type": "openIdConnect",
            "openIdConnectUrl": issuer.rstrip("/") + "/.well-known/openid-configuration",
            "description": TOKEN_SCHEME.model.description,
        }
    return schemes


def require(*roles: Role) -> Callable[..., Awaitable[Principal]]:
    """A FastAPI dependency: the caller, who holds one of `roles` (none given: any valid caller).

    A request is checked against the rate limit once, however many dependencies ask for its caller.
    """

    async def caller(
        request: Request,
        _api_key: Annotated[None, Depends(API_KEY_SCHEME)],
        _token: Annotated[None, Depends(TOKEN_SCHEME)],
    ) -> Principal:
        known = getattr(request.state, "principal", None)
        if isinstance(known, Principal):
            if roles and not known.has_any(roles):
                raise lacking_role(roles)
            return known
        gate: GateState = request.app.state.gate
        principal = await admit(gate, request.scope["headers"], roles, datetime.now(UTC))
        request.state.principal = principal
        return principal

    return caller
