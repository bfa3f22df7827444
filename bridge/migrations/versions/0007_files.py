"""Files: whose, what, in which state, and who was given them.

Revision: 0007.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def exact(length: int) -> sa.String:
    return sa.String(length).with_variant(mysql.VARBINARY(4 * length), "mysql", "mariadb")


def text(length: int) -> sa.String:
    binary = mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin")
    return sa.String(length).with_variant(binary, "mysql", "mariadb")


HASH = sa.LargeBinary(32).with_variant(mysql.VARBINARY(32), "mysql", "mariadb")


def upgrade() -> None:
    op.create_table(
        "im_file",
        sa.Column("file_id", exact(32), primary_key=True),
        sa.Column("owner", exact(64), nullable=False),
        sa.Column("name", text(255), nullable=False),
        sa.Column("mime", text(127), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("hash", HASH, nullable=True),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("expires", sa.BigInteger, nullable=True),
    )
    op.create_index("im_file_owner", "im_file", ["owner", "state"])
    op.create_index("im_file_expiry", "im_file", ["state", "expires"])
    op.create_table(
        "im_file_grant",
        sa.Column("file_id", exact(32), primary_key=True),
        sa.Column("user_id", exact(64), primary_key=True),
        sa.Column("granted_by", exact(64), nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "im_storage",
        sa.Column("name", exact(64), primary_key=True),
        sa.Column("mark", exact(64), nullable=False),
    )


def downgrade() -> None:
    for table in ("im_storage", "im_file_grant", "im_file"):
        op.drop_table(table)
