"""Every connection obeys libpq's words for encryption: as variables (Kubernetes) and in the URL (managed services)."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from app.db.engine import connect, make_engine
from app.db.schema import migrate

NOBODY = "postgresql://nobody@127.0.0.1:1/nothing"


@pytest.fixture(params=["variables", "url"])
def url_that_trusts(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A URL whose authority is a file that holds no certificate: whoever reads it says so."""
    authority = tmp_path / "ca.crt"
    authority.write_text("no certificate", encoding="ascii")
    if request.param == "url":
        return f"{NOBODY}?sslmode=verify-full&sslrootcert={authority}"
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    monkeypatch.setenv("PGSSLROOTCERT", str(authority))
    return NOBODY


async def test_the_flushs_connection_verifies_the_server(url_that_trusts: str) -> None:
    with pytest.raises(ssl.SSLError, match=r"(?i)certificate"):
        await connect(url_that_trusts, purpose="test")


async def test_the_pools_verify_the_server(url_that_trusts: str) -> None:
    engine = make_engine(url_that_trusts, pool_size=1)
    with pytest.raises(ssl.SSLError, match=r"(?i)certificate"):
        async with engine.connect():
            pass


def test_migrations_verify_the_server(url_that_trusts: str) -> None:
    with pytest.raises(ssl.SSLError, match=r"(?i)certificate"):
        migrate(url_that_trusts)
