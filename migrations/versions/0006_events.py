"""Events: what the origination systems are told, and the webhooks that tell them."""

from __future__ import annotations

from alembic import op

from app.db.sql_files import run_sql_files

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_files(op.get_bind(), revision)


def downgrade() -> None:
    run_sql_files(op.get_bind(), revision, "down")
