"""Inbox items as MQTT messages: topic and payload of what a device receives (the wire contract)."""

from __future__ import annotations

from aldis.broker.core.envelope import render_chat, render_sync
from aldis.broker.core.packets import Message
from aldis.broker.pipeline import SERVER, Publication
from aldis.broker.ports import Item, Kind, NewMessage

_SYSTEM = Kind.SYSTEM
"""Members of an enum are slow to look up, and this is asked for every message."""


def live_item(message: NewMessage, n: int, mid: int) -> Message:
    payload = render_chat(n, mid, message.created, message.content)
    if message.kind is _SYSTEM:
        return Message(f"inbox/{message.recipient}/system/{SERVER}", payload, n=n, mid=mid)
    return Message(f"inbox/{message.recipient}/chat/{message.sender}", payload, n=n, mid=mid, peer=message.sender)


def published_item(publication: Publication, message: NewMessage, n: int, mid: int) -> Message:
    """The same for a chat message whose PUBLISH is still here: its topic is the same text, checked and hashed."""
    payload = render_chat(n, mid, message.created, message.content)
    return Message(publication.message.topic, payload, 0, False, False, 0, b"", b"", n, mid, message.sender)


def sync_item(message: NewMessage, n: int, mid: int) -> Message:
    sender, device = message.sender, message.device
    payload = render_sync(n, mid, message.created, message.recipient, device, message.content)
    return Message(f"inbox/{sender}/sync/{sender}", payload, n=n, mid=mid, origin=device)


def stored_item(user: str, item: Item) -> Message:
    """The same bytes as `live_item` and `sync_item`, from the store."""
    message = NewMessage(item.sender, item.device, item.recipient, item.content, item.created, item.kind)
    return live_item(message, item.n, item.mid) if item.recipient == user else sync_item(message, item.n, item.mid)
