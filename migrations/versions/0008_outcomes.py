"""Outcome events, what they add up to, feeds and costs."""

from __future__ import annotations

from alembic import op

from app.db.sql_files import run_sql_files

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_files(op.get_bind(), revision)


def downgrade() -> None:
    run_sql_files(op.get_bind(), revision, "down")
