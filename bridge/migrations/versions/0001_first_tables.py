"""The first tables.

Revision: 0001. The types are spelled out again instead of being imported: what a migration does never changes, what
`aldis.bridge.schema` declares does. (No database on MySQL is older than revision 0002, with which its back end came.)
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def text(length: int) -> sa.String:
    binary = mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin")
    return sa.String(length).with_variant(binary, "mysql", "mariadb")


def exact(length: int) -> sa.String:
    return sa.String(length).with_variant(mysql.VARBINARY(4 * length), "mysql", "mariadb")


def blob(length: int) -> sa.LargeBinary:
    return sa.LargeBinary(length).with_variant(mysql.MEDIUMBLOB(), "mysql", "mariadb")


USER, DEVICE = exact(64), exact(128)


def upgrade() -> None:
    create_accounts()
    create_messages()


def create_accounts() -> None:
    op.create_table(
        "im_user",
        sa.Column("user_id", USER, primary_key=True),
        sa.Column("name", text(128), nullable=False, server_default=""),
        sa.Column("password_hash", text(255), nullable=False),
        sa.Column("state", sa.SmallInteger, nullable=False, server_default="1"),
        sa.Column("created", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "im_relation",
        sa.Column("user_id1", USER, primary_key=True),
        sa.Column("user_id2", USER, primary_key=True),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("blocked", sa.SmallInteger, nullable=False, server_default="0"),
        sa.Column("encrypt_key", blob(256), nullable=True),
        sa.Column("key_version", sa.Integer, nullable=False, server_default="0"),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("updated", sa.BigInteger, nullable=False),
    )
    op.create_index("im_relation_second", "im_relation", ["user_id2"])
    op.create_table(
        "im_session",
        sa.Column("session_id", exact(36), primary_key=True),
        sa.Column("user_id", USER, sa.ForeignKey("im_user.user_id"), nullable=False),
        sa.Column("device_id", DEVICE, nullable=False),
        sa.Column("refresh_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("expires", sa.BigInteger, nullable=False),
        sa.Column("revoked", sa.BigInteger, nullable=True),
        sa.Column("created", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_im_session_user_id", "im_session", ["user_id"])
    op.create_table(
        "im_token",
        sa.Column("token_id", exact(36), primary_key=True),
        sa.Column("hash", sa.LargeBinary(32), nullable=False, unique=True),
        sa.Column("user_id", USER, sa.ForeignKey("im_user.user_id"), nullable=False),
        sa.Column("device_id", DEVICE, nullable=False),
        sa.Column("name", text(128), nullable=False),
        sa.Column("expires", sa.BigInteger, nullable=True),
        sa.Column("last_used", sa.BigInteger, nullable=True),
        sa.Column("revoked", sa.BigInteger, nullable=True),
        sa.Column("created", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_im_token_user_id", "im_token", ["user_id"])
    op.create_table(
        "im_device",
        sa.Column("user_id", USER, primary_key=True),
        sa.Column("device_id", DEVICE, primary_key=True),
        sa.Column("inbox_cursor", sa.BigInteger, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("last_seen", sa.BigInteger, nullable=False),
    )


def create_messages() -> None:
    op.create_table(
        "im_message",
        sa.Column("mid", ROW_ID, primary_key=True, autoincrement=True),
        sa.Column("sender", USER, nullable=False),
        sa.Column("device", DEVICE, nullable=False),
        sa.Column("id", exact(160), nullable=True),
        sa.Column("recipient", USER, nullable=False),
        sa.Column("kind", sa.SmallInteger, nullable=False),
        sa.Column("content", blob(16_777_215), nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("n", sa.BigInteger, nullable=False),
        sa.Column("sync_n", sa.BigInteger, nullable=True),
        sqlite_autoincrement=True,
    )
    op.create_index("im_message_key", "im_message", ["sender", "device", "id"], unique=True)
    op.create_table(
        "im_offline",
        sa.Column("to_user_id", USER, primary_key=True),
        sa.Column("n", ROW_ID, primary_key=True, autoincrement=False),
        sa.Column("mid", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "im_inbox",
        sa.Column("user_id", USER, primary_key=True),
        sa.Column("head", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "im_sequence",
        sa.Column("sender", USER, primary_key=True),
        sa.Column("device", DEVICE, primary_key=True),
        sa.Column("recipient", USER, primary_key=True),
        sa.Column("seq", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "im_receipt",
        sa.Column("reader", USER, primary_key=True),
        sa.Column("peer", USER, primary_key=True),
        sa.Column("delivered_mid", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("read_mid", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("updated", sa.BigInteger, nullable=False),
    )
    op.create_index("im_receipt_peer", "im_receipt", ["peer", "updated"])


def downgrade() -> None:
    for table in (
        "im_receipt",
        "im_sequence",
        "im_inbox",
        "im_offline",
        "im_message",
        "im_device",
        "im_token",
        "im_session",
        "im_relation",
        "im_user",
    ):
        op.drop_table(table)
