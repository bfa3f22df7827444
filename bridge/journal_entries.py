"""A message as the journal keeps it: one MessagePack array."""

from __future__ import annotations

import msgspec

from aldis.broker.ports import Kind, NewMessage

VERSION = 1


class UnreadableEntry(ValueError):
    """Not an entry, or one of a version that this program does not know."""


class _Kept(msgspec.Struct, array_like=True, gc=False):
    """Never change the order; a new field goes to the end, with a default."""

    version: int
    sender: str
    device: str
    recipient: str
    content: bytes
    created: int
    kind: int
    id: str | None
    seq: int | None
    sync: bool


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Kept).decode
_CHAT = int(Kind.CHAT)


def encode_entry(message: NewMessage) -> bytes:
    """Without its `tag` and its `mid`."""
    return _encode(
        (
            VERSION,
            message.sender,
            message.device,
            message.recipient,
            message.content,
            message.created,
            _CHAT if message.kind is Kind.CHAT else int(message.kind),
            message.id,
            message.seq,
            message.sync,
        )
    )


def decode_entry(data: bytes) -> NewMessage:
    """Raises `UnreadableEntry`."""
    try:
        kept = _decode(data)
        if kept.version != VERSION:
            raise UnreadableEntry(f"an entry of version {kept.version}")
        kind = Kind(kept.kind)
    except UnreadableEntry:
        raise
    except (msgspec.DecodeError, ValueError) as error:  # of which ValidationError is one
        raise UnreadableEntry(f"not an entry: {error}") from error
    return NewMessage(
        kept.sender, kept.device, kept.recipient, kept.content, kept.created, kind, kept.id, kept.seq, kept.sync
    )
