"""${message}"""

from __future__ import annotations

from alembic import op

from app.db.sql_files import run_sql_files

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_files(op.get_bind(), ${repr(up_revision)})


def downgrade() -> None:
    run_sql_files(op.get_bind(), ${repr(up_revision)}, "down")
