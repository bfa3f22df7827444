"""Log lines, for people or for machines: time, level, logger, text, and what the line is about as fields of their own.
Never payloads or secrets."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


def _fields(record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
    """The `extra` of a record, without what is None or empty."""
    return ((key, value) for key, value in vars(record).items() if key not in _STANDARD and value not in (None, ""))


class KeyValueFormatter(logging.Formatter):
    """`format: text`. Appends the fields as `key=value`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        return " ".join([super().formatMessage(record), *(f"{key}={value!r}" for key, value in _fields(record))])


class JsonFormatter(logging.Formatter):
    """`format: json`. One object per line: `ts` (UTC), `level`, `logger`, `event`, the fields, and `trace` where there
    is one."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "event": record.getMessage(),
        }
        for key, value in _fields(record):
            line.setdefault(key, value)
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


_FORMATS = {"text": KeyValueFormatter, "json": JsonFormatter}


def set_up_logging(level: str, format: str = "text") -> None:
    """Logs of the whole process to standard error; may be called again. amqtt logs every step of every client at INFO;
    it is kept to warnings."""
    handler = logging.StreamHandler()
    handler.setFormatter(_FORMATS[format]())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for chatty in ("amqtt", "transitions", "uvicorn", "alembic", "sqlalchemy"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # at DEBUG these would write down what they carry: statements with their values, addresses of files (SQLAlchemy
    # does so at INFO already)
    for telling in ("aiosqlite", "websockets", "asyncio", "multipart", "httptools"):
        logging.getLogger(telling).setLevel(max(logging.INFO, logging.getLevelName(level)))
    # amqtt reports a failed start with a traceback; whoever starts us gets the reason as one line
    logging.getLogger("amqtt.broker").setLevel(logging.CRITICAL)
