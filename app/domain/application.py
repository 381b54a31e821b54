"""A loan application as rules see it: known values, and a cause for each unknown one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from app.domain.fields import Value


class Unknown(StrEnum):
    """Why a value is not known. Unknown is not zero."""

    NOT_REQUESTED = "not_requested"
    NOT_FOUND = "not_found"
    SOURCE_ERROR = "source_error"
    UNDEFINED = "undefined"
    """The gate's own: a ratio over nothing, income without usable proof, a date that lies ahead."""


REPORTABLE_CAUSES = (Unknown.NOT_REQUESTED, Unknown.NOT_FOUND, Unknown.SOURCE_ERROR)
"""The causes that an originator may state; `not_requested` is assumed where none is."""

MAX_REVISIONS = 10


class LoanApplication(NamedTuple):
    """One request for a loan, in one revision.

    `values` holds what is known, by field name, at each field's scale (see `fields`), the lender's own attributes
    included; `unknown` holds the stated causes of what is not. `amount` is in minor units of `currency`.
    """

    application_id: str
    revision: int
    channel_code: str
    product: str
    jurisdiction: str | None
    amount: int
    currency: str
    term_months: int
    applicant_ref: str | None
    completed_at: datetime | None
    consent_at: datetime | None
    bureau_pulled_at: datetime | None
    values: Mapping[str, Value]
    unknown: Mapping[str, Unknown]

    def cause(self, field: str) -> Unknown:
        """Why `field` is unknown."""
        return self.unknown.get(field, Unknown.NOT_REQUESTED)
