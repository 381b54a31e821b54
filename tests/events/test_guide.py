"""The example of docs/webhooks.md, run on a real delivery."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.events.conftest import Teller
from tests.events.receiver import receiving
from tests.support.cluster import eventually

_GUIDE = Path(__file__).resolve().parents[2] / "docs" / "webhooks.md"


async def test_the_guides_verification_takes_a_delivery_and_refuses_what_was_tampered_with(teller: Teller) -> None:
    (code,) = re.findall(r"```python\n(.+?)```", _GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    verified = names["verified"]
    async with receiving() as receiver:
        webhook = await teller.subscribe(receiver)
        await teller.change("proposed")
        await eventually(lambda: len(receiver.received) == 1)
    (got,) = receiver.received
    assert verified(webhook["secret"], got.headers, got.body)
    assert not verified(webhook["secret"], got.headers, got.body + b" ")
    assert not verified(webhook["secret"], got.headers | {"webhook-id": "another"}, got.body)
    old = str(int(got.headers["webhook-timestamp"]) - 600)
    assert not verified(webhook["secret"], got.headers | {"webhook-timestamp": old}, got.body)
    assert not verified("whsec_" + "A" * 43 + "=", got.headers, got.body)
