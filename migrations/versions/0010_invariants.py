"""What was found when the gate looked whether its own figures agree."""

from __future__ import annotations

from alembic import op

from app.db.sql_files import run_sql_files

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_files(op.get_bind(), revision)


def downgrade() -> None:
    run_sql_files(op.get_bind(), revision, "down")
