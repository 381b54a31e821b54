"""The examples of docs/webhooks.md and of the OpenAPI document, as they are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from app.api.schemas.events import SecretRotation, WebhookClosing, WebhookRequest
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


def _example(model: type[BaseModel]) -> Any:
    (example,) = model.model_json_schema()["examples"]
    return example


async def test_the_examples_of_the_openapi_document_are_taken_as_they_are(teller: Teller) -> None:
    admin = await teller.client("admin")
    made = await admin.post("/v1/webhooks", json=_example(WebhookRequest))
    assert made.status_code == 201, made.text
    assert made.headers["cache-control"] == "no-store"
    path = made.headers["location"]
    rotated = await admin.post(f"{path}/rotate", json=_example(SecretRotation))
    assert rotated.status_code == 200, rotated.text
    assert rotated.json()["secret"] != made.json()["secret"]
    assert [secret["number"] for secret in rotated.json()["secrets"]] == [2, 1]
    ended = await admin.post(f"{path}/disable", json=_example(WebhookClosing))
    assert ended.status_code == 200, ended.text
    again = await admin.post(f"{path}/rotate", json=_example(SecretRotation))
    assert again.status_code == 409
