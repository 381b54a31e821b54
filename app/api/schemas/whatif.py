"""What-ifs on drafts, as the API asks and tells."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from app.api.schemas.common import AnswerModel, Code, Instant, RequestModel
from app.domain.canonical import Json, instant_text
from app.governance.whatif_runs import RunState, WhatIfRun

_MAX_NUMBER = 2**31 - 1
_Percent = Annotated[
    int | float | Annotated[str, StringConstraints(pattern=r"^\d{1,3}(\.\d{1,4})?$")],
    Field(description="Percent, with up to four decimals."),
]


class BandDocument(RequestModel):
    """One band: where it begins (numbers, at the field's scale) or the text that it is; and the probability there."""

    from_: Annotated[int | None, Field(alias="from", ge=-(2**53), le=2**53)] = None
    is_: Annotated[str | None, Field(alias="is", min_length=1, max_length=64)] = None
    pd_pct: _Percent

    @model_validator(mode="after")
    def _one_mark(self) -> Self:
        if (self.from_ is None) == (self.is_ is None):
            raise ValueError("a band has `from` or `is`")
        return self


class ProbabilitiesDocument(RequestModel):
    """Probabilities of default by bands of one field."""

    field: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_.]{0,99}$")]
    bands: Annotated[tuple[BandDocument, ...], Field(min_length=1, max_length=1_000)]
    otherwise_pd_pct: _Percent | None = None


class WhatIfRequest(RequestModel):
    """Which decisions of the log are decided again, and what is assumed. Without anything: all of them."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "from": "2026-10-01T00:00:00Z",
                    "to": "2026-11-01T00:00:00Z",
                    "channels": ["search-ads"],
                    "reviewers": 3,
                    "pd": {
                        "field": "bureau.score",
                        "bands": [{"from": 0, "pd_pct": "12.5"}, {"from": 620, "pd_pct": 4}],
                    },
                }
            ]
        },
    )

    from_: Annotated[Instant | None, Field(alias="from", description="Decided at or after it.")] = None
    to: Annotated[Instant | None, Field(description="Decided before it.")] = None
    channels: Annotated[frozenset[Code] | None, Field(min_length=1, max_length=1_000)] = None
    baseline: Annotated[
        int | None, Field(ge=1, le=_MAX_NUMBER, description="Version to compare with; else with what was decided.")
    ] = None
    reviewers: Annotated[int | None, Field(ge=1, le=100_000, description="How many there are, of 80 cases a day.")] = (
        None
    )
    lgd_pct: Annotated[int, Field(ge=0, le=100)] = 65
    ead_pct: Annotated[int, Field(ge=0, le=100)] = 75
    pd: ProbabilitiesDocument | None = None

    def question(self) -> dict[str, Json]:
        """As it is stored and as the run reads it."""
        return {
            "from": None if self.from_ is None else instant_text(self.from_),
            "to": None if self.to is None else instant_text(self.to),
            "channels": None if self.channels is None else list[Json](sorted(self.channels)),
            "baseline": self.baseline,
            "reviewers": self.reviewers,
            "lgd_pct": self.lgd_pct,
            "ead_pct": self.ead_pct,
            "pd": None if self.pd is None else _exact(self.pd.model_dump(by_alias=True, exclude_none=True)),
        }


def _exact(value: Any) -> Json:
    """Without fractions as floats: they are told as the text that was sent."""
    if isinstance(value, dict):
        return {key: _exact(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_exact(item) for item in value]
    return repr(value) if isinstance(value, float) else value


class WhatIfRunDocument(AnswerModel):
    """A what-if: how far it is, and what came of it."""

    run_id: int
    draft_id: int
    document_digest: Annotated[str, Field(description="Of the document that is decided under.")]
    state: RunState
    phase: Annotated[
        Literal["starting", "reading", "deciding"], Field(description="`reading` brings the columns up to date.")
    ]
    rows_done: Annotated[int, Field(description="In this phase.")]
    rows_total: int | None
    question: dict[str, Any]
    created_by: str
    created_at: datetime
    heard_at: Annotated[datetime, Field(description="When its process last spoke.")]
    cancelled_by: str | None
    ended_at: datetime | None
    failure: str | None
    report_id: int | None
    report_digest: Annotated[str | None, Field(description="What an approval names.")]
    measured: Annotated[
        dict[str, Any] | None,
        Field(description="How long it took, and what a decision under the draft takes. No part of the report."),
    ]

    @classmethod
    def of(cls, run: WhatIfRun) -> Self:
        """The document of a run."""
        values = {name: getattr(run, name) for name in cls.model_fields}
        report = run.report_digest
        return cls(
            **values
            | {
                "document_digest": run.document_digest.hex(),
                "report_digest": None if report is None else report.hex(),
                "question": dict(run.question),
            }
        )


class WhatIfRunPage(AnswerModel):
    """One page of what-ifs on a draft, newest first."""

    items: tuple[WhatIfRunDocument, ...]
    next_cursor: str | None
