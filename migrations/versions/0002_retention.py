"""Retention: legal holds, the drop of what is past its time, erasure of a person, and the daily digest of the log."""

from __future__ import annotations

from alembic import op

from app.db.sql_files import run_sql_files

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_files(op.get_bind(), revision)


def downgrade() -> None:
    run_sql_files(op.get_bind(), revision, "down")
