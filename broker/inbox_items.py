"""Inbox items as MQTT messages: topic and payload of what a device receives (the wire contract)."""

from __future__ import annotations

from aldis.broker.core.envelope import render_chat, render_sync
from aldis.broker.core.packets import Message
from aldis.broker.pipeline import SERVER, Publication
from aldis.broker.ports import Item, Kind, NewMessage


def live_item(message: NewMessage, n: int, mid: int) -> Message:
    payload = render_chat(n, mid, message.created, message.content)
    if message.kind is Kind.SYSTEM:
        return Message(f"inbox/{message.recipient}/system/{SERVER}", payload, n=n, mid=mid)
    publication = message.tag
    topic = (
        publication.message.topic  # the same text, already at hand
        if isinstance(publication, Publication)
        else f"inbox/{message.recipient}/chat/{message.sender}"
    )
    return Message(topic, payload, n=n, mid=mid, peer=message.sender)


def sync_item(message: NewMessage, n: int, mid: int) -> Message:
    sender, device = message.sender, message.device
    payload = render_sync(n, mid, message.created, message.recipient, device, message.content)
    return Message(f"inbox/{sender}/sync/{sender}", payload, n=n, mid=mid, origin=device)


def stored_item(user: str, item: Item) -> Message:
    """The same bytes as `live_item` and `sync_item`, from the store."""
    message = NewMessage(item.sender, item.device, item.recipient, item.content, item.created, item.kind)
    return live_item(message, item.n, item.mid) if item.recipient == user else sync_item(message, item.n, item.mid)
