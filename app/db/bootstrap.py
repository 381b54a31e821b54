"""Creates what a migration cannot create for itself: the three logins and the database that the owner owns.

Needs a login that may create roles and databases, once. Running it again changes nothing but the passwords given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg

DATABASE_NAME = "channel_gate"
_BOOTSTRAP_LOCK = 4_840_311_976_251_041


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """The names of the three logins. Each can do less than the one before it thinks it needs."""

    owner: str = "channel_gate_owner"
    serving: str = "channel_gate_serving"
    governance: str = "channel_gate_governance"

    def names(self) -> tuple[str, str, str]:
        """Owner, serving, governance."""
        return self.owner, self.serving, self.governance


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginUrls:
    """One database as each of the three logins reaches it."""

    owner: str = field(repr=False)
    serving: str = field(repr=False)
    governance: str = field(repr=False)

    def environment(self) -> dict[str, str]:
        """The variables that the settings read them from."""
        return {
            "OWNER_DATABASE_URL": self.owner,
            "DATABASE_URL": self.serving,
            "GOVERNANCE_DATABASE_URL": self.governance,
        }


async def bootstrap(
    superuser_url: str,
    *,
    database: str = DATABASE_NAME,
    roles: Roles | None = None,
    passwords: Mapping[str, str] | None = None,
) -> LoginUrls:
    """Create the logins and the database where they are absent, and return how each login reaches it.

    superuser_url: a login with CREATEROLE and CREATEDB (a superuser, or what a managed service calls its admin).
    passwords: by role name; a role that is not named keeps the password that it has, or gets none.

    Raises:
        OSError, asyncpg.PostgresError: where the server is away or the login may not do it.
    """
    roles = roles or Roles()
    passwords = passwords or {}
    await _create_roles_and_database(superuser_url, database=database, roles=roles, passwords=passwords)
    await hand_over(url_for(superuser_url, database=database), database=database, roles=roles)
    urls = [
        url_for(superuser_url, user=role, password=passwords.get(role, ""), database=database) for role in roles.names()
    ]
    return LoginUrls(owner=urls[0], serving=urls[1], governance=urls[2])


def url_for(url: str, *, database: str, user: str | None = None, password: str = "") -> str:
    """The same server, another database and, where `user` is given, another login."""
    parts = urlsplit(url)
    authority = parts.netloc
    if user is not None:
        _, _, address = parts.netloc.rpartition("@")
        secret = f":{quote(password, safe='')}" if password else ""
        authority = f"{quote(user, safe='')}{secret}@{address}"
    return urlunsplit((parts.scheme, authority, f"/{quote(database, safe='')}", parts.query, ""))


async def _create_roles_and_database(
    superuser_url: str, *, database: str, roles: Roles, passwords: Mapping[str, str]
) -> None:
    connection = await asyncpg.connect(superuser_url, timeout=10)
    try:
        # Two bootstraps at once would both find a role absent and one of them would fail.
        await connection.execute("SELECT pg_advisory_lock($1)", _BOOTSTRAP_LOCK)
        for role in roles.names():
            name = quoted_name(role)
            if await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role) is None:
                await connection.execute(f"CREATE ROLE {name} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE")
            if role in passwords:
                # A utility statement takes no parameter; the server quotes the text for us.
                secret = await connection.fetchval("SELECT quote_literal($1::text)", passwords[role])
                await connection.execute(f"ALTER ROLE {name} PASSWORD {secret}")
        owner = quoted_name(roles.owner)
        if await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", database) is None:
            # An admin that is no superuser may create a database only for a role that it is a member of.
            if not await connection.fetchval("SELECT pg_has_role(current_user, $1, 'SET')", roles.owner):
                await connection.execute(f"GRANT {owner} TO CURRENT_USER")
            await connection.execute(f"CREATE DATABASE {quoted_name(database)} OWNER {owner}")
    finally:
        await connection.close()


async def hand_over(database_url: str, *, database: str, roles: Roles) -> None:
    """Let nobody but the three logins enter, and nobody but the owner create. `database_url`: as superuser.

    Raises:
        OSError, asyncpg.PostgresError: where the server is away or the login may not do it.
    """
    connection = await asyncpg.connect(database_url, timeout=10)
    try:
        name = quoted_name(database)
        owner, *others = (quoted_name(role) for role in roles.names())
        await connection.execute(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")
        await connection.execute(f"GRANT CONNECT, CREATE ON DATABASE {name} TO {owner}")
        await connection.execute(f"GRANT CONNECT ON DATABASE {name} TO {', '.join(others)}")
        await connection.execute(f"ALTER DATABASE {name} SET timezone TO 'UTC'")
    finally:
        await connection.close()


def quoted_name(name: str) -> str:
    """An SQL identifier, quoted."""
    return '"' + name.replace('"', '""') + '"'
