"""Everything that an operator can set, read once from the environment. `docs/settings.md` is the reference."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

ENVIRONMENT_PREFIX = "GATE_"

PostgresUrl = Annotated[str, StringConstraints(pattern=r"^postgres(ql)?://\S+$")]
HttpUrl = Annotated[str, StringConstraints(pattern=r"^https?://\S+$")]
RoleName = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_]{0,62}$")]
PortNumber = Annotated[int, Field(ge=1, le=65535)]
WebhookKeys = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/]{43}=(,[A-Za-z0-9+/]{43}=)*$")]
LogLevel = Literal["debug", "info", "warning", "error"]


class SettingsError(Exception):
    """A setting that is missing or that cannot be used. The text names the variable and never its value."""


class Settings(BaseSettings):
    """One immutable reading of the environment. Values that may hold a password stay out of `repr`."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX,
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        hide_input_in_errors=True,
        env_ignore_empty=True,
    )

    # The three logins. None of them is needed by the commands that touch no database.
    database_url: PostgresUrl | None = Field(
        default=None,
        validation_alias="DATABASE_URL",
        repr=False,
        description="PostgreSQL URL of the serving login, which decides and reads and may change nothing else.",
    )
    governance_database_url: PostgresUrl | None = Field(
        default=None,
        validation_alias="GOVERNANCE_DATABASE_URL",
        repr=False,
        description="PostgreSQL URL of the governance login, which carries out the admin changes.",
    )
    owner_database_url: PostgresUrl | None = Field(
        default=None,
        validation_alias="OWNER_DATABASE_URL",
        repr=False,
        description="PostgreSQL URL of the owner login, which runs the migrations. The service does not need it.",
    )

    # The names of the logins, for bootstrap and for the grants of the migrations.
    owner_role: RoleName = Field(default="channel_gate_owner", description="Name of the owner login.")
    serving_role: RoleName = Field(default="channel_gate_serving", description="Name of the serving login.")
    governance_role: RoleName = Field(default="channel_gate_governance", description="Name of the governance login.")

    # The server.
    host: str = Field(default="127.0.0.1", min_length=1, description="Address that the service listens on.")
    port: PortNumber = Field(default=8000, validation_alias="PORT", description="Port that the service listens on.")
    workers: int = Field(default=1, ge=1, le=64, description="Worker processes. On Kubernetes: 1, and more replicas.")
    metrics_port: PortNumber | None = Field(
        default=None,
        description="Port of a listener of its own for /metrics. Without it, /metrics is on the service's port alone.",
    )
    drain_seconds: int = Field(
        default=15,
        ge=0,
        le=600,
        description="How long requests in flight may take to finish after SIGTERM, before they are cut off.",
    )

    connection_limit: int = Field(
        default=8192,
        ge=1,
        le=65536,
        description="Connections that a worker keeps open at once, as far as it may open files; one more is a 503.",
    )

    # The flush.
    flush_queue_limit: int = Field(
        default=4096, ge=1, description="Decisions that may wait for the log; a request past it is a 503 at once."
    )
    flush_batch_limit: int = Field(default=64, ge=1, le=1024, description="Most decisions that one flush writes.")
    flush_deadline_seconds: float = Field(
        default=2.0, gt=0, le=60, description="How long a flush may take before its requests are answered with a 503."
    )

    # The snapshot and the rollout.
    snapshot_poll_seconds: float = Field(
        default=2.0, gt=0, le=5, description="How often a worker looks for changes that no notification announced."
    )
    lease_seconds: float = Field(
        default=10, gt=0, description="How long a worker may decide after it last confirmed its snapshot."
    )
    registry_lease_seconds: float = Field(
        default=15,
        gt=0,
        description="How long the registry counts a silent worker as live. Longer than GATE_LEASE_SECONDS.",
    )

    # Limits at the edge.
    body_limit_bytes: int = Field(
        default=65536, ge=1024, description="Largest body of one request, and of one line of a batch."
    )
    batch_line_limit: int = Field(default=10_000, ge=1, description="Most applications in one batch request.")
    rate_limit_per_second: float = Field(
        default=1000,
        ge=0,
        description="Requests per second of an API key that has no limit of its own; 0 means no limit.",
    )

    # Connections.
    read_pool_size: int = Field(default=4, ge=1, le=100, description="Connections per worker for reads.")
    admin_pool_size: int = Field(default=2, ge=1, le=100, description="Connections per worker for admin changes.")

    # People.
    oidc_issuer: HttpUrl | None = Field(
        default=None, description="Issuer of the bearer tokens of people; unset: API keys only."
    )
    oidc_audience: str | None = Field(default=None, description="Audience that a bearer token must name.")
    oidc_jwks_url: HttpUrl | None = Field(
        default=None, description="Where the issuer publishes its signing keys (JWKS)."
    )
    oidc_roles_claim: str = Field(default="roles", min_length=1, description="Claim of the token that lists the roles.")
    single_person_mode: bool = Field(
        default=True,
        description="One person may publish alone, and answers say so. Off: a draft is made, and `migrate` records it.",
    )

    # Telemetry.
    log_level: LogLevel = Field(default="info", description="Least severe log line that is written.")
    log_format: Literal["json", "console"] = Field(default="json", description="JSON lines, or text for a terminal.")
    tracing: bool = Field(
        default=False,
        description="OpenTelemetry tracing over OTLP, by the usual OTEL_ variables; the image has the extra for it.",
    )

    # Webhooks.
    webhook_keys: WebhookKeys | None = Field(
        default=None,
        repr=False,
        description="Base64 of 32 random bytes, from which webhook secrets are derived; more keys after commas, newest"
        " first. Unset: no webhooks.",
    )
    webhook_networks: str = Field(
        default="", description="Networks (CIDR, by commas) that webhooks may lead to although they are not public."
    )
    webhook_loopback: bool = Field(
        default=False, description="Webhooks may lead to this machine, also without TLS: for the demo and tests."
    )
    webhook_timeout_seconds: float = Field(
        default=10.0, gt=0, le=60, description="How long a receiver may take to answer."
    )
    webhook_retry_seconds: float = Field(
        default=5.0, gt=0, le=3600, description="Wait before the second attempt; it doubles each time."
    )
    webhook_retry_limit_seconds: float = Field(
        default=3600.0, gt=0, le=86400, description="Longest wait between two attempts. There is no last attempt."
    )

    # Retention.
    partitions_ahead_months: int = Field(
        default=3, ge=1, le=24, description="Months of the log that are laid out ahead."
    )
    retention_months_consumer: int = Field(
        default=25, ge=25, description="Months that decisions on consumer credit are kept (Reg B: at least 25)."
    )
    retention_months_business: int = Field(
        default=12, ge=12, description="Months that decisions on business credit are kept (Reg B: at least 12)."
    )

    # What-if.
    extract_directory: Path | None = Field(
        default=None,
        description="Folder of the log's columnar extract, for what-ifs. It holds applicants' data: its owner's alone.",
    )

    @field_validator("log_level", "log_format", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("webhook_networks")
    @classmethod
    def _networks_can_be_read(cls, value: str) -> str:
        try:
            tuple(ip_network(part.strip()) for part in value.split(",") if part.strip())
        except ValueError:
            raise ValueError("must be networks such as 10.20.0.0/16, separated by commas") from None
        return value

    @model_validator(mode="after")
    def _leases_nest(self) -> Self:
        if not self.snapshot_poll_seconds < self.lease_seconds < self.registry_lease_seconds:
            raise ValueError("GATE_SNAPSHOT_POLL_SECONDS < GATE_LEASE_SECONDS < GATE_REGISTRY_LEASE_SECONDS must hold")
        return self

    @model_validator(mode="after")
    def _oidc_is_whole(self) -> Self:
        given = [self.oidc_issuer, self.oidc_audience, self.oidc_jwks_url]
        if any(given) and not all(given):
            raise ValueError(
                "GATE_OIDC_ISSUER, GATE_OIDC_AUDIENCE and GATE_OIDC_JWKS_URL are set together or not at all"
            )
        return self

    def serving_url(self) -> str:
        """The URL of the serving login.

        Raises:
            SettingsError: where it is not set.
        """
        return _required(self.database_url, "DATABASE_URL")

    def governance_url(self) -> str:
        """The URL of the governance login.

        Raises:
            SettingsError: where it is not set.
        """
        return _required(self.governance_database_url, "GOVERNANCE_DATABASE_URL")

    def owner_url(self) -> str:
        """The URL of the owner login.

        Raises:
            SettingsError: where it is not set.
        """
        return _required(self.owner_database_url, "OWNER_DATABASE_URL")


def read_settings() -> Settings:
    """The settings of this process, from its environment.

    Raises:
        SettingsError: names each variable that cannot be used, on one line, without its value.
    """
    try:
        return Settings()
    except ValidationError as error:
        faults = [
            f"{variable_name(str(fault['loc'][0]))}: {fault['msg']}" if fault["loc"] else str(fault["msg"])
            for fault in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        raise SettingsError("; ".join(faults)) from None


def variable_name(field_name: str) -> str:
    """The environment variable that a field is read from; a name that is already a variable stays as it is."""
    field = Settings.model_fields.get(field_name)
    if field is None:
        return field_name if field_name.isupper() else f"{ENVIRONMENT_PREFIX}{field_name.upper()}"
    alias = field.validation_alias
    return alias if isinstance(alias, str) else f"{ENVIRONMENT_PREFIX}{field_name.upper()}"


def settings_reference() -> str:
    """The table of `docs/settings.md`: one row a variable, in the order of the code."""
    rows = ["| Variable | Default | Meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = (
            ""
            if field.default is None
            else f"`{str(field.default).lower() if isinstance(field.default, bool) else field.default}`"
        )
        rows.append(f"| `{variable_name(name)}` | {default} | {field.description} |")
    return "\n".join(rows) + "\n"


def _required(url: str | None, variable: str) -> str:
    if url is None:
        raise SettingsError(f"{variable} is not set")
    return url
