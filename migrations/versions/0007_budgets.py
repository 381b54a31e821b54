"""Persons and budgets: what a flush looks at before an accept stands, and what accepts take."""

from __future__ import annotations

from alembic import op

from app.db.sql_files import run_sql_files

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_files(op.get_bind(), revision)


def downgrade() -> None:
    run_sql_files(op.get_bind(), revision, "down")
