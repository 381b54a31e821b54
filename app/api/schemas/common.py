"""Types that several schemas share: lines of text, codes and instants, bounded so that every value can be stored."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, StringConstraints
from pydantic_core import PydanticCustomError

Code = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
"""The code or an alias of a channel."""
TierCode = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
ProductCode = TierCode
Jurisdiction = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9-]{2,16}$")]
Line = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x20\x7f][^\x00-\x1f\x7f]{0,199}$")]
"""A line of text that does not begin with a blank."""
Reason = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x20\x7f][^\x00-\x1f\x7f]{0,499}$")]

_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII).fullmatch
_FIRST_YEAR, _END_YEAR = 2000, 2200


class RequestModel(BaseModel):
    """A body or a query of which every field is known."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class AnswerModel(BaseModel):
    """A part of an answer; a field is always there, null where it is not known."""

    model_config = ConfigDict(frozen=True, json_schema_serialization_defaults_required=True)


def _text_of_instant(value: object) -> object:
    # Pydantic would take numbers for seconds since 1970.
    if isinstance(value, datetime) or (isinstance(value, str) and _RFC_3339(value)):
        return value
    raise PydanticCustomError("gate_instant", "must be an instant (RFC 3339)")


def _in_range(value: datetime) -> datetime:
    if not _FIRST_YEAR < value.year < _END_YEAR:
        raise PydanticCustomError("gate_instant_range", "must lie between the years 2001 and 2199")
    return value.astimezone(UTC)


Instant = Annotated[AwareDatetime, BeforeValidator(_text_of_instant), AfterValidator(_in_range)]
"""An instant with an offset, as UTC."""
