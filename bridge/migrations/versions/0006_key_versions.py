"""Every version of a relation's key in a table of its own, the master keys by their ids, sealed relations.

Revision: 0006.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def exact(length: int) -> sa.String:
    return sa.String(length).with_variant(mysql.VARBINARY(4 * length), "mysql", "mariadb")


def octets(length: int) -> sa.LargeBinary:
    return sa.LargeBinary(length).with_variant(mysql.VARBINARY(length), "mysql", "mariadb")


USER, DEVICE = exact(64), exact(128)


def upgrade() -> None:
    create_keys()
    create_sealed()
    # which master key wrapped them, nobody has written down: all that a server has are tried
    op.execute(
        "INSERT INTO im_relation_key (user_id1, user_id2, version, master_id, encrypt_key, created) "
        "SELECT user_id1, user_id2, key_version, '', encrypt_key, updated FROM im_relation "
        "WHERE encrypt_key IS NOT NULL"
    )
    op.drop_column("im_relation", "encrypt_key")


def create_keys() -> None:
    op.create_table(
        "im_relation_key",
        sa.Column("user_id1", USER, primary_key=True),
        sa.Column("user_id2", USER, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("master_id", exact(16), nullable=True),
        sa.Column("encrypt_key", octets(128), nullable=True),
        sa.Column("key_check", octets(32), nullable=True),
        sa.Column("stale", sa.SmallInteger, nullable=False, server_default="0"),
        sa.Column("created", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_im_relation_key_master_id", "im_relation_key", ["master_id"])
    op.create_table(
        "im_master_key",
        sa.Column("master_id", exact(16), primary_key=True),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
    )


def create_sealed() -> None:
    op.create_table(
        "im_sealed_wish",
        sa.Column("user_id", USER, primary_key=True),
        sa.Column("peer", USER, primary_key=True),
        sa.Column("created", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "im_device_key",
        sa.Column("user_id", USER, primary_key=True),
        sa.Column("device_id", DEVICE, primary_key=True),
        sa.Column("public_key", octets(32), nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "im_sealed_key",
        sa.Column("user_id1", USER, primary_key=True),
        sa.Column("user_id2", USER, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("user_id", USER, primary_key=True),
        sa.Column("device_id", DEVICE, primary_key=True),
        sa.Column("wrapped", octets(81), nullable=False),
        sa.Column("by_user", USER, nullable=False),
        sa.Column("by_device", DEVICE, nullable=False),
        sa.Column("by_key", octets(32), nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
    )
    op.create_index("im_sealed_key_device", "im_sealed_key", ["user_id", "device_id"])


def downgrade() -> None:
    """The newest version that the server has made goes back; older ones, and sealed ones, are lost."""
    blob = sa.LargeBinary(256).with_variant(mysql.MEDIUMBLOB(), "mysql", "mariadb")
    op.add_column("im_relation", sa.Column("encrypt_key", blob, nullable=True))
    op.execute(
        "UPDATE im_relation SET encrypt_key = (SELECT k.encrypt_key FROM im_relation_key k WHERE "
        "k.user_id1 = im_relation.user_id1 AND k.user_id2 = im_relation.user_id2 "
        "AND k.version = im_relation.key_version)"
    )
    for table in ("im_sealed_key", "im_device_key", "im_sealed_wish", "im_master_key", "im_relation_key"):
        op.drop_table(table)
