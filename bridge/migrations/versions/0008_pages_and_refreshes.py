"""Lists in pages: what they are read by. And when a login was refreshed last.

Revision: 0008.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name, table, columns in (
        ("im_relation_second", "im_relation", ["user_id2", "user_id1"]),
        ("im_file_owner", "im_file", ["owner", "state", "created", "file_id"]),
    ):
        op.drop_index(name, table)
        op.create_index(name, table, columns)
    op.add_column("im_session", sa.Column("refreshed", sa.BigInteger, nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("im_session") as session:
        session.drop_column("refreshed")
    for name, table, columns in (
        ("im_relation_second", "im_relation", ["user_id2"]),
        ("im_file_owner", "im_file", ["owner", "state"]),
    ):
        op.drop_index(name, table)
        op.create_index(name, table, columns)
