"""The check of an API key against the rows of a snapshot."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from hmac import compare_digest
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.identities.keys import KeyRing
from app.identities.principal import Principal, Refusal, Role

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
SECRET = "s-e_c-r_e_t" + "x" * 32


def row(key_id: str = "0a1b2c3d", secret: str = SECRET, **changes: Any) -> dict[str, Any]:
    return {
        "key_id": key_id,
        "originator_id": 7,
        "originator_code": "alpha",
        "person_id": None,
        "secret_hash": sha256(secret.encode()).digest(),
        "label": "loan origination",
        "roles": ["origination"],
        "rate_limit_per_second": 50,
        "created_at": NOW - timedelta(days=1),
        "expires_at": None,
        "revoked_at": None,
        **changes,
    }


def header(key_id: str = "0a1b2c3d", secret: str = SECRET) -> bytes:
    return f"Bearer cgk_{key_id}_{secret}".encode()


def test_key_stands_for_its_originator_and_roles() -> None:
    ring = KeyRing.from_rows([row(), row("other", "another secret")])
    assert len(ring) == 2
    assert ring.authenticate(header(), NOW) == Principal(
        subject="key:0a1b2c3d",
        roles=frozenset({Role.ORIGINATION}),
        originator_id=7,  # type: ignore[arg-type]
        originator_code="alpha",
        key_id="0a1b2c3d",
        rate_limit_per_second=50,
    )


def test_header_may_be_text_and_its_scheme_in_any_case() -> None:
    ring = KeyRing.from_rows([row()])
    for value in (header().decode(), header().replace(b"Bearer", b"bearer"), header().replace(b" ", b"   ")):
        assert isinstance(ring.authenticate(value, NOW), Principal)


@pytest.mark.parametrize(
    "value",
    [
        header(secret="wrong"),
        header(secret=""),
        header(secret=SECRET + " "),
        header(key_id="unknown"),
        header(key_id=""),
        b"Bearer cgk_0a1b2c3d",
        b"Bearer cgk_",
    ],
)
def test_wrong_key_is_refused(value: bytes) -> None:
    assert KeyRing.from_rows([row()]).authenticate(value, NOW) is Refusal.INVALID


@pytest.mark.parametrize(
    "value", [b"", b"Bearer", b"Bearer abc.def.ghi", b"Basic cgk_0a1b2c3d_x", b"cgk_0a1b2c3d_x", "Bearer 密"]
)
def test_what_is_no_key_is_left_to_others(value: bytes | str) -> None:
    assert KeyRing.from_rows([row()]).authenticate(value, NOW) is Refusal.NOT_A_KEY


@pytest.mark.parametrize(("column", "refusal"), [("expires_at", Refusal.EXPIRED), ("revoked_at", Refusal.REVOKED)])
def test_key_ends_at_the_instant_itself(column: str, refusal: Refusal) -> None:
    ring = KeyRing.from_rows([row(**{column: NOW})])
    assert isinstance(ring.authenticate(header(), NOW - timedelta(microseconds=1)), Principal)
    assert ring.authenticate(header(), NOW) is refusal


def test_that_a_key_ended_is_said_only_to_who_holds_it() -> None:
    ring = KeyRing.from_rows([row(revoked_at=NOW - timedelta(days=1))])
    assert ring.authenticate(header(secret="guess"), NOW) is Refusal.INVALID


def test_role_that_this_version_does_not_know_grants_nothing() -> None:
    caller = KeyRing.from_rows([row(roles=["emperor", "analyst"])]).authenticate(header(), NOW)
    assert isinstance(caller, Principal)
    assert caller.roles == {Role.ANALYST}


def test_empty_ring_refuses_every_key() -> None:
    assert KeyRing().authenticate(header(), NOW) is Refusal.INVALID


@given(value=st.binary(max_size=120) | st.binary(max_size=80).map(lambda tail: b"Bearer cgk_" + tail))
def test_no_header_breaks_the_check(value: bytes) -> None:
    assert isinstance(KeyRing.from_rows([row()]).authenticate(value, NOW), Refusal)


@pytest.mark.parametrize("value", [header("key250", "secret 250"), header("key250"), header("unknown")])
def test_a_check_is_one_hash_and_one_comparison_however_many_keys_there_are(
    value: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = KeyRing.from_rows([row(f"key{number}", f"secret {number}") for number in range(500)])
    hashed, compared = Mock(wraps=sha256), Mock(wraps=compare_digest)
    monkeypatch.setattr("app.identities.keys.sha256", hashed)
    monkeypatch.setattr("app.identities.keys.compare_digest", compared)
    ring.authenticate(value, NOW)
    assert (hashed.call_count, compared.call_count) == (1, 1)
