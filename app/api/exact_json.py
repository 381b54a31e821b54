"""JSON bodies of FastAPI's routes without floats: a fraction that is sent is the decimal that is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

from fastapi import Request, Response
from fastapi.routing import APIRoute


class _ExactRequest(Request):
    async def json(self) -> Any:
        body = await self.body()
        return json.loads(body, parse_float=_decimal, parse_constant=_refuse)


class ExactRoute(APIRoute):
    """A route whose JSON body has a Decimal for every number with a fraction or an exponent."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, given a request that reads its JSON exactly."""
        handle = super().get_route_handler()

        async def exact(request: Request) -> Response:
            return await handle(_ExactRequest(request.scope, request.receive))

        return exact


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise json.JSONDecodeError("a number is out of range", text, 0) from None


def _refuse(constant: str) -> NoReturn:
    raise json.JSONDecodeError("a number must be finite", constant, 0)
