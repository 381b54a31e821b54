"""The foundation: state and audit, identities, channels, policies, the decision log, its flush, and who may do what."""

from __future__ import annotations

from alembic import op

from app.db.sql_files import run_sql_files

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_files(op.get_bind(), revision)


def downgrade() -> None:
    run_sql_files(op.get_bind(), revision, "down")
