"""Events and webhooks, as the API reads and shows them."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import ConfigDict, Field, StringConstraints

from app.api.schemas.common import AnswerModel, Code, Line, Reason, RequestModel
from app.events.deliveries import Attempt, Delivery
from app.events.endpoints import Endpoint, SecretRecord
from app.events.outbox import Event
from app.events.secrets import NewSecret

Kind = Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,32}\.[a-z_]{1,32}$")]
WebhookUrl = Annotated[str, StringConstraints(pattern=r"^https?://[!-~]{1,1900}$")]
MAX_OVERLAP_HOURS = 24 * 30


class EventQuery(RequestModel):
    """What comes next."""

    after: Annotated[
        str | None,
        Field(max_length=200, description="`next_cursor` of the answer before; left out: from the beginning."),
    ] = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class WebhookRequest(RequestModel):
    """Where an originator wants to be told."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "originator": "demo-origination",
                    "url": "https://origination.example.com/gate-events",
                    "kinds": ["channel.state_changed"],
                    "description": "production",
                }
            ]
        }
    )

    originator: Code
    url: Annotated[WebhookUrl, Field(description="https, with a public address.")]
    kinds: Annotated[
        tuple[Kind, ...] | None, Field(min_length=1, max_length=50, description="Kinds of events; null: all.")
    ] = None
    description: Line | None = None


class SecretRotation(RequestModel):
    """How long the secrets before the new one sign beside it."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"overlap_hours": 24, "reason": "yearly"}]})

    overlap_hours: Annotated[int, Field(ge=0, le=MAX_OVERLAP_HOURS)] = 24
    reason: Reason | None = None


class WebhookClosing(RequestModel):
    """Why nothing more is to be sent."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "the system is replaced"}]})

    reason: Reason


class EventDocument(AnswerModel):
    """One event; `data` depends on the kind and is what a webhook carries."""

    id: UUID
    type: str
    timestamp: datetime
    originator: Annotated[str | None, Field(description="Null: all originators.")]
    subject: str
    data: dict[str, Any]

    @classmethod
    def of(cls, event: Event) -> Self:
        """The document of an event."""
        return cls(
            id=event.event_id,
            type=event.kind,
            timestamp=event.at,
            originator=event.originator,
            subject=event.subject,
            data=json.loads(event.body)["data"],
        )


class EventPage(AnswerModel):
    """What came next, in an order that skips nothing. `next_cursor` is always good to go on from."""

    items: tuple[EventDocument, ...]
    next_cursor: Annotated[str | None, Field(description="Null only before the first event.")]


class AttemptDocument(AnswerModel):
    """One attempt. Without a result it is under way, or its process died."""

    number: int
    started_at: datetime
    duration_ms: int | None
    result: Literal["delivered", "refused", "timeout", "unreachable", "blocked"] | None
    status: int | None
    excerpt: Annotated[str | None, Field(description="Beginning of an answer that was no success.")]

    @classmethod
    def of(cls, attempt: Attempt) -> Self:
        """The document of an attempt."""
        return cls(**{name: getattr(attempt, name) for name in cls.model_fields})


class DeliveryDocument(AnswerModel):
    """An event on its way to a webhook."""

    webhook_id: UUID
    state: Literal["pending", "delivered", "cancelled"]
    redelivery: bool
    attempt_count: int
    next_attempt_at: datetime | None
    settled_at: datetime | None
    attempts: Annotated[tuple[AttemptDocument, ...], Field(description="The latest ones, newest first.")]

    @classmethod
    def of(cls, delivery: Delivery) -> Self:
        """The document of a delivery."""
        values = {name: getattr(delivery, name) for name in cls.model_fields if name not in ("webhook_id", "attempts")}
        attempts = tuple(AttemptDocument.of(each) for each in delivery.attempts)
        return cls(webhook_id=delivery.endpoint_id, attempts=attempts, **values)


class DeliveryLog(AnswerModel):
    """What became of one event at each webhook."""

    items: tuple[DeliveryDocument, ...]


class Redelivery(AnswerModel):
    """To how many webhooks the event is sent again."""

    webhooks: int


class SecretDocument(AnswerModel):
    """A secret without its text."""

    number: int
    created_at: datetime
    ends_at: datetime | None

    @classmethod
    def of(cls, record: SecretRecord) -> Self:
        """The document of a secret."""
        return cls(number=record.number, created_at=record.created_at, ends_at=record.ends_at)


class WebhookDocument(AnswerModel):
    """A webhook."""

    webhook_id: UUID
    originator: str
    url: str
    kinds: tuple[str, ...] | None
    description: str | None
    created_by: str
    created_at: datetime
    disabled_by: str | None
    disabled_at: datetime | None
    secrets: tuple[SecretDocument, ...]

    @classmethod
    def fields_of(cls, endpoint: Endpoint) -> dict[str, Any]:
        """The values of a webhook."""
        names = WebhookDocument.model_fields.keys() - {"webhook_id", "secrets"}
        return {name: getattr(endpoint, name) for name in names} | {
            "webhook_id": endpoint.endpoint_id,
            "secrets": tuple(SecretDocument.of(each) for each in endpoint.secrets),
        }

    @classmethod
    def of(cls, endpoint: Endpoint) -> Self:
        """The document of a webhook."""
        return cls(**cls.fields_of(endpoint))


class WebhookWithSecret(WebhookDocument):
    """A webhook with its new secret, which is shown this once."""

    secret: Annotated[str, Field(description="`whsec_` and base64 of 32 bytes.")]

    @classmethod
    def with_secret(cls, endpoint: Endpoint, secret: NewSecret) -> Self:
        """The document of a webhook whose secret was just made."""
        return cls(**cls.fields_of(endpoint), secret=secret.text)


class WebhookList(AnswerModel):
    """Webhooks by originator and age, disabled ones included."""

    items: tuple[WebhookDocument, ...]
