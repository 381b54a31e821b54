"""Bearer tokens, really signed, from a real issuer on loopback."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

from app.identities.oidc import IdentityProviderUnavailableError, OidcConfig, OidcVerifier
from app.identities.principal import OriginatorId, Principal, Refusal, Role
from tests.identities.issuer import AUDIENCE, Issuer, SigningKey

ORIGINATORS = {"alpha": OriginatorId(7)}


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def rsa_key() -> SigningKey:
    return SigningKey("RS256", "first")


@pytest.fixture
def issuer(rsa_key: SigningKey) -> Iterator[Issuer]:
    with Issuer(rsa_key) as running:
        yield running


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient() as client:
        yield client


@pytest.fixture
def originators() -> dict[str, OriginatorId]:
    return dict(ORIGINATORS)


@pytest.fixture
async def verifier(
    issuer: Issuer, http: httpx.AsyncClient, clock: Clock, originators: dict[str, OriginatorId]
) -> AsyncIterator[OidcVerifier]:
    config = OidcConfig(issuer=issuer.url, audience=AUDIENCE, jwks_url=issuer.jwks_url)
    made = OidcVerifier(config, http=http, originators=originators.get, clock=clock)
    yield made
    await made.close()


async def check(verifier: OidcVerifier, token: str, now: datetime | None = None) -> Principal | Refusal:
    return await verifier.authenticate(f"Bearer {token}".encode(), now or datetime.now(UTC))


def segment(document: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_token_of_a_person_is_accepted(issuer: Issuer, verifier: OidcVerifier, algorithm: str) -> None:
    issuer.keys = [SigningKey(algorithm, "only")]
    assert await check(verifier, issuer.token(roles=["analyst", "reviewer", "emperor"])) == Principal(
        subject=f"{issuer.url}|person-7",
        person_id=f"{issuer.url}|person-7",
        roles=frozenset({Role.ANALYST, Role.REVIEWER}),
    )


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"aud": "another-service"}, Refusal.INVALID),
        ({"aud": None}, Refusal.INVALID),
        ({"iss": "https://elsewhere.example"}, Refusal.INVALID),
        ({"iss": None}, Refusal.INVALID),
        ({"sub": None}, Refusal.INVALID),
        ({"sub": ""}, Refusal.INVALID),
        ({"exp": None}, Refusal.INVALID),
        ({"iat": None}, Refusal.INVALID),
        ({"exp": int(time.time()) - 60}, Refusal.EXPIRED),
        ({"nbf": int(time.time()) + 86_400}, Refusal.INVALID),
        ({"iat": int(time.time()) + 86_400}, Refusal.INVALID),
        ({"originator": "nobody"}, Refusal.UNKNOWN_ORIGINATOR),
        ({"originator": ["alpha"]}, Refusal.UNKNOWN_ORIGINATOR),
    ],
)
async def test_token_whose_claims_do_not_hold_is_refused(
    issuer: Issuer, verifier: OidcVerifier, changes: dict[str, Any], refusal: Refusal
) -> None:
    assert await check(verifier, issuer.token(**changes)) is refusal


async def test_one_of_several_audiences_is_enough(issuer: Issuer, verifier: OidcVerifier) -> None:
    assert isinstance(await check(verifier, issuer.token(aud=["other", AUDIENCE])), Principal)


async def test_token_without_nbf_is_accepted(issuer: Issuer, verifier: OidcVerifier) -> None:
    assert isinstance(await check(verifier, issuer.token(nbf=None)), Principal)


async def test_unsigned_token_is_refused(issuer: Issuer, verifier: OidcVerifier) -> None:
    for algorithm in ("none", "None", "NONE"):
        unsigned = f"{segment({'alg': algorithm, 'kid': 'first'})}.{segment(issuer.claims())}."
        assert await check(verifier, unsigned) is Refusal.INVALID
    header, claims, _ = issuer.token().split(".")
    assert await check(verifier, f"{header}.{claims}.") is Refusal.INVALID


async def test_published_key_cannot_be_used_as_a_shared_secret(
    issuer: Issuer, verifier: OidcVerifier, rsa_key: SigningKey
) -> None:
    public = rsa_key.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signed = f"{segment({'alg': 'HS256', 'typ': 'JWT', 'kid': 'first'})}.{segment(issuer.claims())}"
    mac = hmac.new(public, signed.encode(), hashlib.sha256).digest()
    forged = f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
    assert await check(verifier, forged) is Refusal.INVALID


async def test_signature_of_another_algorithm_than_the_key_is_refused(issuer: Issuer, verifier: OidcVerifier) -> None:
    elliptic = SigningKey("ES256", "first")
    assert await check(verifier, issuer.token(elliptic)) is Refusal.INVALID


async def test_signature_of_a_stranger_under_a_known_key_id_is_refused(issuer: Issuer, verifier: OidcVerifier) -> None:
    assert await check(verifier, issuer.token(SigningKey("RS256", "first"))) is Refusal.INVALID


async def test_changed_claims_are_refused(issuer: Issuer, verifier: OidcVerifier) -> None:
    header, _, signature = issuer.token().split(".")
    altered = f"{header}.{segment(issuer.claims(roles=['admin']))}.{signature}"
    assert await check(verifier, altered) is Refusal.INVALID


async def test_short_rsa_key_is_refused(issuer: Issuer, verifier: OidcVerifier, rsa_key: SigningKey) -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    published = {**RSAAlgorithm.to_jwk(weak.public_key(), as_dict=True), "kid": "weak", "alg": "RS256"}
    good = rsa_key.published
    rsa_key.published = published
    try:
        with pytest.warns(jwt.InsecureKeyLengthWarning):
            token = jwt.encode(issuer.claims(), weak, algorithm="RS256", headers={"kid": "weak"})
        assert await check(verifier, token) is Refusal.INVALID
    finally:
        rsa_key.published = good


@pytest.mark.parametrize(
    "text",
    ["", "Basic YTpi", "Bearer", "Bearer a.b", "Bearer a.b.c", "Bearer " + "a" * 9_000 + ".b.c", "Bearer ....."],
)
async def test_what_is_no_token_is_refused_without_asking_the_issuer(
    issuer: Issuer, verifier: OidcVerifier, text: str
) -> None:
    assert await verifier.authenticate(text, datetime.now(UTC)) is Refusal.INVALID
    assert issuer.requests == []


async def test_logout_token_is_not_an_access_token(issuer: Issuer, verifier: OidcVerifier) -> None:
    assert await check(verifier, issuer.token(headers={"typ": "logout+jwt"})) is Refusal.INVALID
    assert isinstance(await check(verifier, issuer.token(headers={"typ": "at+JWT"})), Principal)


async def test_machine_client_acts_for_its_originator_and_is_no_person(issuer: Issuer, verifier: OidcVerifier) -> None:
    caller = await check(verifier, issuer.token(sub="los", originator="alpha", roles=["origination"]))
    assert isinstance(caller, Principal)
    assert (caller.originator_id, caller.originator_code, caller.person_id) == (7, "alpha", None)


@pytest.mark.parametrize(
    "claims", [{"client_id": "robot"}, {"azp": "robot"}, {"gty": "client-credentials"}], ids=["rfc9068", "azp", "gty"]
)
async def test_client_credentials_are_no_person(issuer: Issuer, verifier: OidcVerifier, claims: dict[str, str]) -> None:
    caller = await check(verifier, issuer.token(sub="robot", **claims))
    assert isinstance(caller, Principal)
    assert caller.person_id is None


async def test_token_of_an_originator_that_is_gone_is_no_longer_remembered(
    issuer: Issuer, verifier: OidcVerifier, originators: dict[str, OriginatorId]
) -> None:
    token = issuer.token(originator="alpha")
    assert isinstance(await check(verifier, token), Principal)
    del originators["alpha"]
    assert await check(verifier, token) is Refusal.UNKNOWN_ORIGINATOR


@pytest.mark.parametrize(
    ("path", "claims"),
    [
        ("realm_access.roles", {"realm_access": {"roles": ["admin"]}}),
        ("https://gate.example/roles", {"https://gate.example/roles": ["admin"]}),
        ("scope", {"scope": "openid admin"}),
    ],
)
async def test_roles_are_read_from_the_configured_claim(
    issuer: Issuer, http: httpx.AsyncClient, path: str, claims: dict[str, Any]
) -> None:
    config = OidcConfig(issuer=issuer.url, audience=AUDIENCE, jwks_url=issuer.jwks_url, roles_claim=path)
    verifier = OidcVerifier(config, http=http, originators=ORIGINATORS.get)
    caller = await check(verifier, issuer.token(roles=["analyst"], **claims))
    assert isinstance(caller, Principal)
    assert caller.roles == {Role.ADMIN}


async def test_roles_claim_of_another_shape_grants_nothing(issuer: Issuer, verifier: OidcVerifier) -> None:
    for roles in ({"admin": True}, 7, [["admin"]], [{"name": "admin"}]):
        caller = await check(verifier, issuer.token(roles=roles))
        assert isinstance(caller, Principal)
        assert caller.roles == frozenset()


async def test_keys_are_fetched_once_for_many_tokens(issuer: Issuer, verifier: OidcVerifier) -> None:
    for number in range(5):
        assert isinstance(await check(verifier, issuer.token(sub=f"person-{number}")), Principal)
    assert issuer.requests == ["/keys"]


async def test_keys_are_found_by_discovery(issuer: Issuer, http: httpx.AsyncClient) -> None:
    verifier = OidcVerifier(OidcConfig(issuer=issuer.url, audience=AUDIENCE), http=http, originators=ORIGINATORS.get)
    assert isinstance(await check(verifier, issuer.token()), Principal)
    assert issuer.requests == ["/.well-known/openid-configuration", "/keys"]


async def test_discovery_of_another_issuer_is_not_trusted(issuer: Issuer, http: httpx.AsyncClient) -> None:
    issuer.discovery_issuer = "https://elsewhere.example"
    verifier = OidcVerifier(OidcConfig(issuer=issuer.url, audience=AUDIENCE), http=http, originators=ORIGINATORS.get)
    with pytest.raises(IdentityProviderUnavailableError):
        await check(verifier, issuer.token())


async def test_rotated_key_is_found_and_the_withdrawn_one_refused(
    issuer: Issuer, verifier: OidcVerifier, rsa_key: SigningKey, clock: Clock
) -> None:
    old_token = issuer.token()
    assert isinstance(await check(verifier, old_token), Principal)
    new_key = SigningKey("ES256", "second")
    issuer.keys = [new_key]
    clock.now += 10.0
    assert isinstance(await check(verifier, issuer.token(new_key)), Principal)
    assert await check(verifier, old_token) is Refusal.INVALID


async def test_unknown_key_ids_do_not_make_the_issuer_a_target(
    issuer: Issuer, verifier: OidcVerifier, clock: Clock
) -> None:
    stranger = SigningKey("ES256", "unknown")
    for number in range(20):
        assert await check(verifier, issuer.token(stranger, headers={"kid": f"unknown-{number}"})) is Refusal.INVALID
    assert len(issuer.requests) == 1
    clock.now += 10.0
    assert await check(verifier, issuer.token(stranger)) is Refusal.INVALID
    assert len(issuer.requests) == 2


async def test_token_cannot_be_judged_while_the_issuer_is_away(
    issuer: Issuer, verifier: OidcVerifier, clock: Clock
) -> None:
    issuer.status = 500
    for _ in range(3):
        with pytest.raises(IdentityProviderUnavailableError) as raised:
            await check(verifier, issuer.token())
        assert raised.value.retry_after_seconds > 0
    assert len(issuer.requests) == 1
    issuer.status = 200
    clock.now += 10.0
    assert isinstance(await check(verifier, issuer.token()), Principal)


async def test_known_key_outlives_an_outage_of_the_issuer(issuer: Issuer, verifier: OidcVerifier, clock: Clock) -> None:
    assert isinstance(await check(verifier, issuer.token()), Principal)
    issuer.status = 500
    clock.now += 3_600.0
    assert isinstance(await check(verifier, issuer.token(sub="another")), Principal)
    clock.now += 86_400.0
    with pytest.raises(IdentityProviderUnavailableError):
        await check(verifier, issuer.token(sub="a third"))


async def test_token_is_verified_once_and_remembered_until_it_expires(
    issuer: Issuer, verifier: OidcVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified = 0
    decode = jwt.decode

    def counted(*args: Any, **kwargs: Any) -> dict[str, Any]:
        nonlocal verified
        verified += 1
        return decode(*args, **kwargs)

    monkeypatch.setattr(jwt, "decode", counted)
    token = issuer.token()
    first = await check(verifier, token)
    assert await check(verifier, token) is first
    assert verified == 1
    assert await check(verifier, token, datetime.now(UTC) + timedelta(seconds=400)) is Refusal.EXPIRED


async def test_memory_of_tokens_is_bounded(
    issuer: Issuer, verifier: OidcVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.identities.oidc._MAX_VERIFIED", 4)
    issuer.keys = [SigningKey("EdDSA", "fast")]
    for number in range(12):
        assert isinstance(await check(verifier, issuer.token(sub=f"person-{number}")), Principal)
    assert len(verifier._verified) == 4


@pytest.mark.parametrize("url", ["http://issuer.example", "ftp://127.0.0.1", "https://", "issuer.example", ""])
def test_issuer_is_reached_by_https(url: str) -> None:
    with pytest.raises(ValueError, match="https"):
        OidcConfig(issuer=url, audience=AUDIENCE)
