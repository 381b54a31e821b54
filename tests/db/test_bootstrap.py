"""The three logins and their database."""

from __future__ import annotations

import asyncpg
import pytest

from app.db.bootstrap import Roles, bootstrap, url_for
from tests.support.cluster import Cluster, Database


def test_a_login_is_put_into_a_url_with_its_password_escaped() -> None:
    url = url_for(
        "postgresql://admin:secret@db:5432/postgres?sslmode=require", database="x y", user="me", password="p@:/"
    )
    assert url == "postgresql://me:p%40%3A%2F@db:5432/x%20y?sslmode=require"


def test_without_a_login_the_url_keeps_its_own() -> None:
    assert url_for("postgresql://admin:s@db/postgres", database="gate") == "postgresql://admin:s@db/gate"


def test_the_urls_of_the_logins_stay_out_of_repr(blank_database: Database) -> None:
    assert "postgresql" not in repr(blank_database.urls)


async def test_bootstrapping_again_changes_nothing(blank_database: Database) -> None:
    again = await bootstrap(blank_database.superuser, database=blank_database.name)
    assert again.serving == blank_database.serving


@pytest.mark.parametrize("login", ["serving", "governance"])
async def test_only_the_owner_may_create(blank_database: Database, login: str) -> None:
    connection = await asyncpg.connect(getattr(blank_database, login))
    try:
        for statement in ("CREATE SCHEMA mine", "CREATE TABLE public.mine ()", "CREATE TEMP TABLE mine ()"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()


async def test_a_login_of_another_name_may_not_enter(blank_database: Database) -> None:
    admin = await asyncpg.connect(blank_database.superuser)
    try:
        await admin.execute("CREATE ROLE somebody_else LOGIN")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await asyncpg.connect(url_for(blank_database.superuser, database=blank_database.name, user="somebody_else"))
    finally:
        await admin.execute("DROP ROLE somebody_else")
        await admin.close()


async def test_an_admin_that_is_no_superuser_may_bootstrap(cluster: Cluster, blank_database: Database) -> None:
    admin = await asyncpg.connect(blank_database.superuser)
    roles = Roles(owner="other_owner", serving="other_serving", governance="other_governance")
    database = "bootstrapped_by_admin"
    try:
        await admin.execute("CREATE ROLE cloud_admin LOGIN CREATEROLE CREATEDB")
        url = url_for(blank_database.superuser, database="postgres", user="cloud_admin")
        urls = await bootstrap(url, database=database, roles=roles, passwords={"other_serving": "it's"})
        assert "it%27s" in urls.serving
        owner = await asyncpg.connect(urls.owner)
        await owner.execute("CREATE SCHEMA gate")
        await owner.close()
    finally:
        await admin.execute(f"DROP DATABASE IF EXISTS {database}")
        for role in (*roles.names(), "cloud_admin"):
            await admin.execute(f"DROP ROLE IF EXISTS {role}")
        await admin.close()
