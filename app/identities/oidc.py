"""Bearer tokens of people and of machine clients, checked against the signing keys that their issuer publishes.

Source: RFC 8725 (JWT best current practices), RFC 9068 (JWT access tokens), OpenID Connect Discovery 1.0.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt
import orjson
import structlog

from app.identities.principal import OriginatorId, Principal, Refusal, known_roles

log = structlog.get_logger(__name__)

ALGORITHMS = ("RS256", "ES256", "EdDSA")
"""Asymmetric ones only: with HS256 in the list, a published key could be used as a shared secret."""

REQUIRED_CLAIMS = ("iss", "aud", "sub", "exp", "iat")
"""`nbf` is checked where it is present: common issuers leave it out, and `iat` says the same."""

_TOKEN_TYPES = frozenset({"", "jwt", "at+jwt", "application/at+jwt"})
_MAX_TOKEN_BYTES = 8_192
_MAX_DOCUMENT_BYTES = 262_144
_MAX_VERIFIED = 4_096


class IdentityProviderUnavailableError(Exception):
    """The issuer's keys cannot be fetched, so a token can be neither accepted nor refused."""

    def __init__(self, retry_after_seconds: float) -> None:
        super().__init__("the signing keys of the issuer cannot be fetched")
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcConfig:
    """Which tokens are accepted. `jwks_url` is found by discovery where it is None."""

    issuer: str
    audience: str
    jwks_url: str | None = None
    roles_claim: str = "roles"
    """A path with dots for nested claims, e.g. `realm_access.roles`. A claim of that very name comes first."""
    originator_claim: str = "originator"
    leeway_seconds: int = 10
    timeout_seconds: float = 3.0
    keys_fresh_seconds: float = 600.0
    """How long fetched keys are used without asking again, so how long a withdrawn one may live on."""
    keys_stale_seconds: float = 86_400.0
    """How long they are used while the issuer does not answer."""
    refresh_interval_seconds: float = 10.0
    """At most one fetch in this time, whatever callers present."""

    def __post_init__(self) -> None:
        for url in (self.issuer, self.jwks_url):
            if url is not None and not _trustworthy(url):
                raise ValueError("an issuer and its keys are reached by https, or on loopback")


class OidcVerifier:
    """Checks tokens of one issuer. Shared by all requests of a worker."""

    def __init__(
        self,
        config: OidcConfig,
        *,
        http: httpx.AsyncClient,
        originators: Callable[[str], OriginatorId | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`originators` gives the id of an originator by its code, from the current snapshot."""
        self._config = config
        self._originators = originators
        self._keys = _SigningKeys(config, http, clock)
        self._verified: dict[bytes, tuple[Principal, int, int]] = {}

    async def authenticate(self, authorization: bytes | str, now: datetime) -> Principal | Refusal:
        """Whose token the value of an Authorization header is. A token that was checked before is not checked again.

        Raises:
            IdentityProviderUnavailableError: where the keys that it needs cannot be fetched.
        """
        if isinstance(authorization, str):
            authorization = authorization.encode("utf-8", "replace")
        scheme, _, token = authorization.partition(b" ")
        token = token.strip()
        if scheme.lower() != b"bearer" or token.count(b".") != 2 or len(token) > _MAX_TOKEN_BYTES:
            return Refusal.INVALID
        fingerprint = sha256(token).digest()
        known = self._recall(fingerprint, now.timestamp())
        if known is not None:
            return known
        outcome = await self._verify(token)
        if isinstance(outcome, Refusal):
            return outcome
        principal, expires = outcome
        self._remember(fingerprint, principal, expires, now.timestamp())
        return principal

    async def close(self) -> None:
        """End what runs in the background. The HTTP client is its owner's to close."""
        await self._keys.close()

    def _recall(self, fingerprint: bytes, now: float) -> Principal | Refusal | None:
        entry = self._verified.get(fingerprint)
        if entry is None:
            return None
        principal, expires, generation = entry
        if now >= expires:
            del self._verified[fingerprint]
            return Refusal.EXPIRED
        code = principal.originator_code
        if generation != self._keys.generation or not self._keys.fresh():
            return None  # a key may have been withdrawn since
        if code is not None and self._originators(code) != principal.originator_id:
            return None
        return principal

    def _remember(self, fingerprint: bytes, principal: Principal, expires: int, now: float) -> None:
        if len(self._verified) >= _MAX_VERIFIED:
            self._verified = {key: entry for key, entry in self._verified.items() if entry[1] > now}
            while len(self._verified) >= _MAX_VERIFIED:
                del self._verified[next(iter(self._verified))]
        self._verified[fingerprint] = (principal, expires, self._keys.generation)

    async def _verify(self, token: bytes) -> tuple[Principal, int] | Refusal:
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") not in ALGORITHMS or str(header.get("typ", "")).lower() not in _TOKEN_TYPES:
                return Refusal.INVALID
            key = await self._keys.find(header.get("kid"))
            if key is None:
                return Refusal.INVALID
            claims = jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                audience=self._config.audience,
                issuer=self._config.issuer,
                leeway=self._config.leeway_seconds,
                options={"require": list(REQUIRED_CLAIMS), "enforce_minimum_key_length": True},
            )
        except jwt.ExpiredSignatureError:
            return Refusal.EXPIRED
        except jwt.PyJWTError:
            return Refusal.INVALID
        principal = self._principal(claims)
        if isinstance(principal, Refusal):
            return principal
        return principal, int(claims["exp"]) + self._config.leeway_seconds

    def _principal(self, claims: Mapping[str, Any]) -> Principal | Refusal:
        if not claims["sub"]:
            return Refusal.INVALID
        subject = f"{claims['iss']}|{claims['sub']}"
        code = claims.get(self._config.originator_claim)
        originator_id = None
        if code is not None:
            originator_id = self._originators(code) if isinstance(code, str) else None
            if originator_id is None:
                return Refusal.UNKNOWN_ORIGINATOR
        return Principal(
            subject=subject,
            roles=known_roles(_names(claims, self._config.roles_claim)),
            person_id=None if code is not None or _is_machine(claims) else subject,
            originator_id=originator_id,
            originator_code=code,
        )


class _SigningKeys:
    """The issuer's keys by their id: fetched when needed, once at a time, and not more often than allowed."""

    def __init__(self, config: OidcConfig, http: httpx.AsyncClient, clock: Callable[[], float]) -> None:
        self._config = config
        self._http = http
        self._clock = clock
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._published: frozenset[bytes] = frozenset()
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self.generation = 0
        """Grows whenever the published keys change."""

    def fresh(self) -> bool:
        """Whether the keys were fetched lately enough to be used without asking."""
        return self._younger_than(self._config.keys_fresh_seconds)

    async def find(self, kid: str | None) -> jwt.PyJWK | None:
        """The key of this id, or None where the issuer has none.

        A key that is known but no longer fresh is used while the keys are fetched again: an outage of the issuer
        stops new keys, not known ones. After a rotation a new key may be refused for one refresh interval.

        Raises:
            IdentityProviderUnavailableError: where the id is not known and the issuer does not answer.
        """
        key = self._pick(kid)
        if key is not None and self.fresh():
            return key
        refreshing = self._refresh()
        if key is None and refreshing is not None:
            await asyncio.shield(refreshing)
            key = self._pick(kid)
        if key is None and self._fetched_at != self._tried_at:
            raise IdentityProviderUnavailableError(self._config.refresh_interval_seconds)
        return key

    async def close(self) -> None:
        """End a fetch that is under way."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait([self._refreshing])

    def _younger_than(self, seconds: float) -> bool:
        return self._fetched_at is not None and self._clock() - self._fetched_at < seconds

    def _pick(self, kid: str | None) -> jwt.PyJWK | None:
        if not self._younger_than(self._config.keys_stale_seconds):
            return None
        if kid is None:  # allowed by RFC 7515 where there is no choice to make
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(kid)

    def _refresh(self) -> asyncio.Task[None] | None:
        """The fetch that is under way, begun now where one is allowed."""
        if self._refreshing is not None and not self._refreshing.done():
            return self._refreshing
        now = self._clock()
        if self._tried_at is not None and now - self._tried_at < self._config.refresh_interval_seconds:
            return None
        self._tried_at = now
        self._refreshing = asyncio.create_task(self._replace_keys(now), name="signing keys")
        return self._refreshing

    async def _replace_keys(self, now: float) -> None:
        try:
            entries = await self._fetch()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, TimeoutError) as error:
            log.warning("signing_keys_unavailable", error_type=type(error).__name__)
            return
        self._fetched_at = now
        published = frozenset(orjson.dumps(entry, option=orjson.OPT_SORT_KEYS) for entry in entries)
        if published != self._published:
            self._published = published
            self._keys = _usable(entries)
            self.generation += 1

    async def _fetch(self) -> list[dict[str, Any]]:
        url = self._config.jwks_url or await self._discover()
        entries = (await self._get(url)).get("keys")
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ValueError("no key set")
        return entries

    async def _discover(self) -> str:
        document = await self._get(self._config.issuer.rstrip("/") + "/.well-known/openid-configuration")
        url = document.get("jwks_uri")
        if document.get("issuer") != self._config.issuer or not isinstance(url, str) or not _trustworthy(url):
            raise ValueError("the discovery document is not this issuer's")
        return url

    async def _get(self, url: str) -> dict[str, Any]:
        timeout = self._config.timeout_seconds
        async with (
            asyncio.timeout(timeout),
            self._http.stream("GET", url, timeout=timeout, follow_redirects=False) as answer,
        ):
            if answer.status_code != 200:
                raise ValueError("the issuer did not answer 200")
            body = bytearray()
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > _MAX_DOCUMENT_BYTES:
                    raise ValueError("the document is too large")
        document = orjson.loads(body)
        if not isinstance(document, dict):
            raise ValueError("the document is no object")
        return document


def _usable(entries: list[dict[str, Any]]) -> dict[str | None, jwt.PyJWK]:
    """Signing keys of an allowed algorithm. Others are skipped: issuers publish keys for other purposes as well."""
    keys: dict[str | None, jwt.PyJWK] = {}
    for entry in entries:
        kid = entry.get("kid")
        if entry.get("use", "sig") != "sig" or entry.get("kty") == "oct" or not isinstance(kid, str | None):
            continue
        try:
            key = jwt.PyJWK(entry)
        except (jwt.PyJWTError, ValueError, TypeError, KeyError):
            continue
        if key.algorithm_name in ALGORITHMS:
            keys[kid] = key
    return keys


def _names(claims: Mapping[str, Any], path: str) -> list[object]:
    """What a claim lists: an array, or text with spaces between. `path` may lead through nested objects."""
    value: Any = claims.get(path)
    if value is None:
        value = claims
        for step in path.split("."):
            value = value.get(step) if isinstance(value, Mapping) else None
    if isinstance(value, str):
        return list(value.split())
    return list(value) if isinstance(value, list) else []


def _is_machine(claims: Mapping[str, Any]) -> bool:
    """Whether a token was given to a client for itself: then its subject is the client (RFC 9068, section 2.2)."""
    return claims.get("gty") == "client-credentials" or claims["sub"] in (claims.get("client_id"), claims.get("azp"))


def _trustworthy(url: str) -> bool:
    parts = urlsplit(url)
    if parts.scheme == "https":
        return bool(parts.hostname)
    if parts.scheme != "http":
        return False
    try:
        return parts.hostname == "localhost" or ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False
