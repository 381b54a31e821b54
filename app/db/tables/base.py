"""What all tables share."""

from __future__ import annotations

from sqlalchemy import MetaData, Text
from sqlalchemy.dialects.postgresql import TIMESTAMP

SCHEMA = "gate"

metadata = MetaData(schema=SCHEMA)

Instant = TIMESTAMP(timezone=True)
Key = Text(collation="C")
"""Compared by its bytes."""
