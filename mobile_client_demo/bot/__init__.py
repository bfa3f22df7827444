"""A kit for bots, sensors and other programs that talk to people: `docs/clients.md` shows how it is used."""

from aldis.mobile_client_demo.bot.asynchronous import AsyncBot
from aldis.mobile_client_demo.bot.blocking import Bot
from aldis.mobile_client_demo.bot.connection import Will
from aldis.mobile_client_demo.bot.core import Limits, Link, NotAllowed
from aldis.mobile_client_demo.bot.disk import NotOurs
from aldis.mobile_client_demo.bot.handlers import DeviceMessage, Message
from aldis.mobile_client_demo.bot.handles import Handle, SendFailed, Stopped
from aldis.mobile_client_demo.bot.key_chest import NoKey
from aldis.mobile_client_demo.bot.reception import NotTaken
from aldis.mobile_client_demo.bot.stored_outbox import OutboxFull

__all__ = [
    "AsyncBot", "Bot", "DeviceMessage", "Handle", "Limits", "Link", "Message", "NoKey", "NotAllowed", "NotOurs",
    "NotTaken", "OutboxFull", "SendFailed", "Stopped", "Will",
]  # fmt: skip
