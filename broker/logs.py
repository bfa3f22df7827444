"""Log lines for people: time, level, logger, text, and what the line is about as `key=value`. Never payloads or
secrets."""

from __future__ import annotations

import logging

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class KeyValueFormatter(logging.Formatter):
    """Appends the `extra` of a record, leaving out what is None or empty."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        line = super().formatMessage(record)
        pairs = [
            f"{key}={value!r}"
            for key, value in vars(record).items()
            if key not in _STANDARD and value not in (None, "")
        ]
        return " ".join([line, *pairs])


def set_up_logging(level: str) -> None:
    """Logs of the whole process to standard error. amqtt logs every step of every client at INFO; it is kept to
    warnings."""
    handler = logging.StreamHandler()
    handler.setFormatter(KeyValueFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for chatty in ("amqtt", "transitions", "uvicorn", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # amqtt reports a failed start with a traceback; whoever starts us gets the reason as one line
    logging.getLogger("amqtt.broker").setLevel(logging.CRITICAL)
