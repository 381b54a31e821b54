"""Compiled policies by version, for reads and replays: a version never changes, so it is read and compiled once."""

from __future__ import annotations

import orjson
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.tables import policies
from app.domain.compiled import CompiledPolicy
from app.domain.compiler import compile_policy

_KEPT_VERSIONS = 64


class UnknownVersionError(LookupError):
    """No policy has this version."""


class PolicyLibrary:
    """Holds the policies that were asked for last, and the codes that any version keeps confidential."""

    def __init__(self) -> None:
        self._compiled: dict[int, CompiledPolicy] = {}
        self._confidential: frozenset[str] = frozenset()
        self._read_up_to = 0

    async def policy(self, connection: AsyncConnection, version: int) -> CompiledPolicy:
        """The compiled policy of a version.

        Raises:
            UnknownVersionError: where there is none.
            PolicyError: where this version of the service cannot compile it.
        """
        known = self._compiled.get(version)
        if known is not None:
            return known
        query = select(policies.c.document).where(policies.c.version == version)
        document = (await connection.execute(query)).scalar_one_or_none()
        if document is None:
            raise UnknownVersionError(f"there is no policy version {version}")
        compiled = compile_policy(orjson.loads(document), version=version)
        while len(self._compiled) >= _KEPT_VERSIONS:
            del self._compiled[next(iter(self._compiled))]
        self._compiled[version] = compiled
        return compiled

    async def confidential_codes(self, connection: AsyncConnection) -> frozenset[str]:
        """The rules that any version so far keeps from origination callers: what was hidden once stays hidden."""
        query = select(policies.c.version, policies.c.document).where(policies.c.version > self._read_up_to)
        for version, document in (await connection.execute(query.order_by(policies.c.version))).all():
            hidden = {rule["code"] for rule in orjson.loads(document)["rules"] if rule.get("confidential")}
            self._confidential |= hidden
            self._read_up_to = version
        return self._confidential
