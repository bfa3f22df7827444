"""The tables, once, for SQLite and MySQL/MariaDB alike. Names beginning `im_` follow the article.

Times are Unix milliseconds. Text that identifies something compares byte by byte (`ExactText`; the default on SQLite):
user ids, device ids and message ids are case-sensitive, and a space at their end counts.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    TypeDecorator,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine

REVISION = "0008"
"""The migration that makes what is declared here; `aldis.bridge.migrate` brings a database up to it."""

metadata = MetaData()

BigId = BigInteger().with_variant(Integer(), "sqlite")
"""SQLite gives out row ids only for a column that is declared INTEGER."""


def _text(length: int) -> String:
    return String(length).with_variant(
        mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb"
    )


class ExactText(TypeDecorator[str]):
    """Text that compares byte by byte everywhere. On MySQL that is VARBINARY, in UTF-8: the collation utf8mb4_bin takes
    "bob" and "bob " for one, and of those that do not, MySQL and MariaDB have no name in common (ADR-0010)."""

    impl = String
    cache_ok = True

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.length = length

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(mysql.VARBINARY(4 * self.length))
        return dialect.type_descriptor(String(self.length))

    def process_bind_param(self, value: str | None, dialect: Dialect) -> Any:
        return value.encode() if value is not None and dialect.name in ("mysql", "mariadb") else value

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        return str(value, "utf-8") if isinstance(value, bytes) else value


def _blob(length: int) -> LargeBinary:
    return LargeBinary(length).with_variant(mysql.MEDIUMBLOB(), "mysql", "mariadb")


def _octets(length: int) -> LargeBinary:
    return LargeBinary(length).with_variant(mysql.VARBINARY(length), "mysql", "mariadb")


UserId = ExactText(64)
DeviceId = ExactText(128)
MessageId = ExactText(160)

im_user = Table(
    "im_user",
    metadata,
    Column("user_id", UserId, primary_key=True),
    Column("name", _text(128), nullable=False, server_default=""),
    Column("password_hash", _text(255), nullable=False),
    # 1 active, 0 disabled, 2 deleted: the row stays, so that nobody gets the name again
    Column("state", SmallInteger, nullable=False, server_default="1"),
    Column("created", BigInteger, nullable=False),
)

im_relation = Table(
    "im_relation",
    metadata,
    # article 9: user_id1 < user_id2, one row per pair
    Column("user_id1", UserId, primary_key=True),
    Column("user_id2", UserId, primary_key=True),
    Column("state", SmallInteger, nullable=False),  # 1 requested by user 1, 2 requested by user 2, 3 friends
    Column("blocked", SmallInteger, nullable=False, server_default="0"),  # bit 0: by user 1, bit 1: by user 2
    Column("key_version", Integer, nullable=False, server_default="0"),  # the newest; it rises over friendships
    Column("created", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
    Index("im_relation_second", "user_id2", "user_id1"),
)

im_session = Table(
    "im_session",
    metadata,
    # one login on one device: a family of refresh tokens of which only the newest is good
    Column("session_id", ExactText(36), primary_key=True),
    Column("user_id", UserId, ForeignKey("im_user.user_id"), nullable=False, index=True),
    Column("device_id", DeviceId, nullable=False),
    Column("refresh_hash", LargeBinary(32), nullable=False),
    Column("expires", BigInteger, nullable=False),
    Column("revoked", BigInteger, nullable=True),
    Column("created", BigInteger, nullable=False),
    Column("refreshed", BigInteger, nullable=True),  # since when that token is the newest, if it is not the first
)

im_token = Table(
    "im_token",
    metadata,
    # long-lived tokens of bots and microcontrollers, kept only as SHA-256
    Column("token_id", ExactText(36), primary_key=True),
    Column("hash", LargeBinary(32), nullable=False, unique=True),
    Column("user_id", UserId, ForeignKey("im_user.user_id"), nullable=False, index=True),
    Column("device_id", DeviceId, nullable=False),
    Column("name", _text(128), nullable=False),
    Column("expires", BigInteger, nullable=True),
    Column("last_used", BigInteger, nullable=True),
    Column("revoked", BigInteger, nullable=True),
    Column("created", BigInteger, nullable=False),
)

im_device = Table(
    "im_device",
    metadata,
    Column("user_id", UserId, primary_key=True),
    Column("device_id", DeviceId, primary_key=True),
    Column("inbox_cursor", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("last_seen", BigInteger, nullable=False),
)

im_admin = Table(
    "im_admin",
    metadata,
    # who may use the administrators' calls
    Column("user_id", UserId, ForeignKey("im_user.user_id"), primary_key=True),
    Column("granted", BigInteger, nullable=False),
)

im_device_name = Table(
    "im_device_name",
    metadata,
    # what its owner calls a device. A table of its own: a device that has never connected has no row in im_device
    Column("user_id", UserId, primary_key=True),
    Column("device_id", DeviceId, primary_key=True),
    Column("name", _text(128), nullable=False),
)

im_message = Table(
    "im_message",
    metadata,
    Column("mid", BigId, primary_key=True, autoincrement=True),
    Column("sender", UserId, nullable=False),
    Column("device", DeviceId, nullable=False),
    Column("id", MessageId, nullable=True),  # JSON text of the sender's key; NULLs never collide
    Column("recipient", UserId, nullable=False),
    Column("kind", SmallInteger, nullable=False),
    Column("content", _blob(16_777_215), nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("n", BigInteger, nullable=False),  # number in the recipient's inbox, to answer a repeat from one row
    Column("sync_n", BigInteger, nullable=True),  # number of the copy in the sender's own inbox, for the same reason
    Index("im_message_key", "sender", "device", "id", unique=True),
    sqlite_autoincrement=True,
)

im_offline = Table(
    "im_offline",
    metadata,
    Column("to_user_id", UserId, primary_key=True),
    Column("n", BigId, primary_key=True, autoincrement=False),
    Column("mid", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

im_inbox = Table(
    "im_inbox",
    metadata,
    Column("user_id", UserId, primary_key=True),
    Column("head", BigInteger, nullable=False),
)

im_sequence = Table(
    "im_sequence",
    metadata,
    Column("sender", UserId, primary_key=True),
    Column("device", DeviceId, primary_key=True),
    Column("recipient", UserId, primary_key=True),
    Column("seq", BigInteger, nullable=False),
)

im_receipt = Table(
    "im_receipt",
    metadata,
    Column("reader", UserId, primary_key=True),
    Column("peer", UserId, primary_key=True),
    Column("delivered_mid", BigInteger, nullable=False, server_default="0"),
    Column("read_mid", BigInteger, nullable=False, server_default="0"),
    Column("updated", BigInteger, nullable=False),
    Index("im_receipt_peer", "peer", "updated"),
)

im_writer = Table(
    "im_writer",
    metadata,
    # what became of a commit whose answer was lost: the last batch of each store on MySQL. SQLite gives an answer.
    Column("writer", LargeBinary(16).with_variant(mysql.VARBINARY(16), "mysql", "mariadb"), primary_key=True),
    Column("batch", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
)

im_shard = Table(
    "im_shard",
    metadata,
    # the journal's shards: who has claimed one last, and so has its epoch, stores what waits in it
    Column("shard", Integer, primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, nullable=False),
)

im_retained = Table(
    "im_retained",
    metadata,
    # retained messages of `devices/{owner}/…`. A topic may be longer than any index takes: its SHA-256 stands for it
    Column("owner", UserId, primary_key=True),
    Column("topic_hash", LargeBinary(32).with_variant(mysql.VARBINARY(32), "mysql", "mariadb"), primary_key=True),
    Column("topic", _blob(65_535), nullable=False),
    Column("payload", _blob(16_777_215), nullable=False),
    Column("qos", SmallInteger, nullable=False),
)

im_announcement = Table(
    "im_announcement",
    metadata,
    # what the accounts side has announced lately, for nodes that have missed it
    Column("number", BigId, primary_key=True, autoincrement=True),
    Column("created", BigInteger, nullable=False),
    Column("content", _blob(65_535), nullable=False),
    sqlite_autoincrement=True,
)

im_history = Table(
    "im_history",
    metadata,
    # the chat messages between two users, user_id1 <= user_id2. Filled behind the group commit (ADR-0014)
    Column("user_id1", UserId, primary_key=True),
    Column("user_id2", UserId, primary_key=True),
    Column("mid", BigId, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

im_history_place = Table(
    "im_history_place",
    metadata,
    # up to which n an inbox stands in im_history
    Column("user_id", UserId, primary_key=True),
    Column("n", BigInteger, nullable=False),
)

im_chore = Table(
    "im_chore",
    metadata,
    # work that one process at a time does for all: who, until when, and where it stands
    Column("name", ExactText(64), primary_key=True),
    Column("holder", ExactText(64), nullable=False),
    Column("held_until", BigInteger, nullable=False),
    Column("place", ExactText(128), nullable=False, server_default=""),
)

im_repeat = Table(
    "im_repeat",
    metadata,
    # what a request with an Idempotency-Key was answered, sealed; empty while it runs
    Column("key_hash", LargeBinary(32).with_variant(mysql.VARBINARY(32), "mysql", "mariadb"), primary_key=True),
    Column("request_hash", LargeBinary(32), nullable=False),
    Column("answer", _blob(65_535), nullable=True),
    Column("expires", BigInteger, nullable=False, index=True),
)

im_broadcast = Table(
    "im_broadcast",
    metadata,
    # a system message to everybody: to whom it has come (in the order of user ids), to how many, and whether it is over
    Column("broadcast_id", ExactText(36), primary_key=True),
    Column("content", _blob(65_535), nullable=False),
    Column("created_by", UserId, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("place", UserId, nullable=False, server_default=""),
    Column("sent", BigInteger, nullable=False, server_default="0"),
    Column("finished", BigInteger, nullable=True),
)

im_relation_key = Table(
    "im_relation_key",
    metadata,
    # every version of a relation's key (article 9) that its members may still have
    Column("user_id1", UserId, primary_key=True),
    Column("user_id2", UserId, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    # under which master key; empty: made before master keys had ids; NULL: sealed, only clients have the key
    Column("master_id", ExactText(16), nullable=True, index=True),
    Column("encrypt_key", _octets(128), nullable=True),  # AES-256 key, wrapped under the master key
    Column("key_check", _octets(32), nullable=True),  # sealed: by which clients know that all have the same key
    Column("stale", SmallInteger, nullable=False, server_default="0"),  # 1: a device that has it was removed
    Column("created", BigInteger, nullable=False),
)

im_master_key = Table(
    "im_master_key",
    metadata,
    # which master keys wrap relation keys here; nothing of the keys themselves
    Column("master_id", ExactText(16), primary_key=True),
    Column("state", SmallInteger, nullable=False),  # 1 wraps new keys, 0 only opens
    Column("since", BigInteger, nullable=False),
)

im_sealed_wish = Table(
    "im_sealed_wish",
    metadata,
    # who wants the relation with whom sealed; it is when both do
    Column("user_id", UserId, primary_key=True),
    Column("peer", UserId, primary_key=True),
    Column("created", BigInteger, nullable=False),
)

im_device_key = Table(
    "im_device_key",
    metadata,
    # X25519 public keys, for which other devices wrap relation keys
    Column("user_id", UserId, primary_key=True),
    Column("device_id", DeviceId, primary_key=True),
    Column("public_key", _octets(32), nullable=False),
    Column("created", BigInteger, nullable=False),
)

im_sealed_key = Table(
    "im_sealed_key",
    metadata,
    # one version of a relation's key, wrapped by one device for another: opaque to the server
    Column("user_id1", UserId, primary_key=True),
    Column("user_id2", UserId, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("user_id", UserId, primary_key=True),
    Column("device_id", DeviceId, primary_key=True),
    Column("wrapped", _octets(81), nullable=False),
    Column("by_user", UserId, nullable=False),
    Column("by_device", DeviceId, nullable=False),
    Column("by_key", _octets(32), nullable=False),
    Column("created", BigInteger, nullable=False),
    Index("im_sealed_key_device", "user_id", "device_id"),
)

im_file = Table(
    "im_file",
    metadata,
    # a file that a user has uploaded; its bytes are elsewhere (`aldis.bridge.blobs`), under the same id
    Column("file_id", ExactText(32), primary_key=True),
    Column("owner", UserId, nullable=False),
    Column("name", _text(255), nullable=False),
    Column("mime", _text(127), nullable=False),
    Column("size", BigInteger, nullable=False),  # while it is uploaded: as much as it may become
    Column("hash", _octets(32), nullable=True),  # SHA-256
    Column("state", SmallInteger, nullable=False),  # 0 uploading, 1 there, 2 gone: its bytes are being removed
    Column("created", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=True),  # uploading: until when it may go on; there: until when it is kept
    Index("im_file_owner", "owner", "state", "created", "file_id"),
    Index("im_file_expiry", "state", "expires"),
)

im_file_grant = Table(
    "im_file_grant",
    metadata,
    # who may fetch a file, beside its owner
    Column("file_id", ExactText(32), primary_key=True),
    Column("user_id", UserId, primary_key=True),
    Column("granted_by", UserId, nullable=False),
    Column("created", BigInteger, nullable=False),
)

im_storage = Table(
    "im_storage",
    metadata,
    # by its own mark, the storage that belongs to this database
    Column("name", ExactText(64), primary_key=True),
    Column("mark", ExactText(64), nullable=False),
)
