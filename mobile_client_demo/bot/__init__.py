"""A kit for bots, sensors and other programs that talk to people: `docs/clients.md` shows how it is used."""

from aldis.mobile_client_demo.bot.asynchronous import AsyncBot
from aldis.mobile_client_demo.bot.blocking import Bot
from aldis.mobile_client_demo.bot.connection import Will
from aldis.mobile_client_demo.bot.core import Limits, NotAllowed
from aldis.mobile_client_demo.bot.disk import NotOurs
from aldis.mobile_client_demo.bot.handlers import DeviceMessage, Message
from aldis.mobile_client_demo.bot.handles import Handle, SendFailed, Stopped
from aldis.mobile_client_demo.bot.key_chest import NoKey
from aldis.mobile_client_demo.bot.stored_outbox import OutboxFull

__all__ = [
    "AsyncBot", "Bot", "DeviceMessage", "Handle", "Limits", "Message", "NoKey", "NotAllowed", "NotOurs", "OutboxFull",
    "SendFailed", "Stopped", "Will",
]  # fmt: skip
