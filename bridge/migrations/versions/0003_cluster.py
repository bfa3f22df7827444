"""What nodes of a cluster share: retained messages, and a log of announcements.

Revision: 0003.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
OWNER = sa.String(64).with_variant(mysql.VARBINARY(256), "mysql", "mariadb")
HASH = sa.LargeBinary(32).with_variant(mysql.VARBINARY(32), "mysql", "mariadb")


def blob(length: int) -> sa.LargeBinary:
    return sa.LargeBinary(length).with_variant(mysql.MEDIUMBLOB(), "mysql", "mariadb")


def upgrade() -> None:
    op.create_table(
        "im_retained",
        sa.Column("owner", OWNER, primary_key=True),
        sa.Column("topic_hash", HASH, primary_key=True),
        sa.Column("topic", blob(65_535), nullable=False),
        sa.Column("payload", blob(16_777_215), nullable=False),
        sa.Column("qos", sa.SmallInteger, nullable=False),
    )
    op.create_table(
        "im_announcement",
        sa.Column("number", ROW_ID, primary_key=True, autoincrement=True),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("content", blob(65_535), nullable=False),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    op.drop_table("im_announcement")
    op.drop_table("im_retained")
