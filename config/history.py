"""What is kept of messages and devices, for how long, and how fast the work behind it goes."""

from __future__ import annotations

from pydantic import Field

from aldis.config.section import Natural, Positive, Seconds, Section


class History(Section):
    keep_days: Natural = 0
    """Days that messages are kept. Older ones are deleted once every device has passed them. 0: for ever."""
    keep_ids_days: Positive = 30
    """Days, from the moment that a message may be deleted, for which its `id` is remembered: until then the same device
    cannot have a message stored anew under it. No client repeats what it sent a month ago."""
    idle_device_days: Natural = 180
    """Days after which a device that has not connected is forgotten, so that it does not hold its user's messages for
    ever. The device that has taken most stays, because it says what the user has. 0: never."""
    fill_interval: Seconds = 60.0
    """Seconds between two rounds that bring new messages into the history. The longer, the more messages of one
    conversation are written at once; who reads it earlier brings in what is missing."""
    retention_interval: Seconds = 3_600.0
    """Seconds between two rounds that look for what may be deleted."""
    batch: int = Field(default=500, gt=0, le=5_000)
    """Rows in one transaction of all this; some milliseconds, in which an embedded server commits no message."""
    pause: Seconds = 0.05
    """Seconds between two transactions, for those who are waiting."""
