"""The queue of reviews: escalations and contested rejects, and what reviewers make of them."""

from __future__ import annotations

from alembic import op

from app.db.sql_files import run_sql_files

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_files(op.get_bind(), revision)


def downgrade() -> None:
    run_sql_files(op.get_bind(), revision, "down")
