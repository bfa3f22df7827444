"""History by pair, work that is done behind the commit, admins, names of devices, repeated requests, broadcasts.

Revision: 0005.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
HASH = sa.LargeBinary(32).with_variant(mysql.VARBINARY(32), "mysql", "mariadb")


def exact(length: int) -> sa.String:
    return sa.String(length).with_variant(mysql.VARBINARY(4 * length), "mysql", "mariadb")


def text(length: int) -> sa.String:
    binary = mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin")
    return sa.String(length).with_variant(binary, "mysql", "mariadb")


def blob(length: int) -> sa.LargeBinary:
    return sa.LargeBinary(length).with_variant(mysql.MEDIUMBLOB(), "mysql", "mariadb")


USER, DEVICE = exact(64), exact(128)


def upgrade() -> None:
    op.create_table(
        "im_admin",
        sa.Column("user_id", USER, sa.ForeignKey("im_user.user_id"), primary_key=True),
        sa.Column("granted", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "im_device_name",
        sa.Column("user_id", USER, primary_key=True),
        sa.Column("device_id", DEVICE, primary_key=True),
        sa.Column("name", text(128), nullable=False),
    )
    op.create_table(
        "im_history",
        sa.Column("user_id1", USER, primary_key=True),
        sa.Column("user_id2", USER, primary_key=True),
        sa.Column("mid", ROW_ID, primary_key=True, autoincrement=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "im_history_place",
        sa.Column("user_id", USER, primary_key=True),
        sa.Column("n", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "im_chore",
        sa.Column("name", exact(64), primary_key=True),
        sa.Column("holder", exact(64), nullable=False),
        sa.Column("held_until", sa.BigInteger, nullable=False),
        sa.Column("place", exact(128), nullable=False, server_default=""),
    )
    op.create_table(
        "im_repeat",
        sa.Column("key_hash", HASH, primary_key=True),
        sa.Column("request_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("answer", blob(65_535), nullable=True),
        sa.Column("expires", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_im_repeat_expires", "im_repeat", ["expires"])
    op.create_table(
        "im_broadcast",
        sa.Column("broadcast_id", exact(36), primary_key=True),
        sa.Column("content", blob(65_535), nullable=False),
        sa.Column("created_by", USER, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("place", USER, nullable=False, server_default=""),
        sa.Column("sent", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("finished", sa.BigInteger, nullable=True),
    )


def downgrade() -> None:
    for table in (
        "im_broadcast",
        "im_repeat",
        "im_chore",
        "im_history_place",
        "im_history",
        "im_device_name",
        "im_admin",
    ):
        op.drop_table(table)
