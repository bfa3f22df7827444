"""What a MySQL error means for us.

ours      the statement is wrong, or a value does not fit: repeating cannot heal it, it is raised as it is
repeated  1062: somebody was there before us, with the same key
again     1213, 1205: deadlock, lock wait; the transaction is rolled back and tried again
the rest  the server, the network, the disk, the rights: `StoreUnavailable`
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator

from aiomysql import (  # type: ignore[import-untyped]
    DatabaseError,
    DataError,
    IntegrityError,
    NotSupportedError,
    ProgrammingError,
)
from aiomysql import Error as DriverError
from sqlalchemy.exc import SQLAlchemyError

from aldis.bridge.not_yet import NotYet
from aldis.broker.ports import StoreUnavailable

TROUBLE = (DriverError, SQLAlchemyError, OSError)
"""Whatever a call of the driver or the pool may raise."""

DUPLICATE = 1062
UNKNOWN_VARIABLE = 1193
_LOCK_WAIT, _DEADLOCK = 1205, 1213
_NO_TABLE = 1146
_MANY_CONNECTIONS, _SHUTTING_DOWN, _NO_SOCKET, _NO_SERVER, _GONE, _LOST = 1040, 1053, 2002, 2003, 2006, 2013
_PASSING = (_MANY_CONNECTIONS, _SHUTTING_DOWN, _NO_SOCKET, _NO_SERVER, _GONE, _LOST)
_OURS = (DataError, IntegrityError, NotSupportedError, ProgrammingError)


def code(error: BaseException) -> int:
    """MySQL's number, 0 if it has none."""
    arguments = getattr(_driver_error(error), "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else 0


def is_repeat(error: BaseException) -> bool:
    return isinstance(error, IntegrityError) and code(error) == DUPLICATE


def may_run_again(error: BaseException) -> bool:
    return code(error) in (_DEADLOCK, _LOCK_WAIT)


def is_lock_wait(error: BaseException) -> bool:
    return code(error) == _LOCK_WAIT


def is_ours(error: BaseException) -> bool:
    return isinstance(_driver_error(error), _OURS) and code(error) != _NO_TABLE


def has_no_table(error: BaseException) -> bool:
    return code(error) == _NO_TABLE


def unavailable(error: BaseException, server: str) -> StoreUnavailable:
    """In words for the operator: which server, what it said, and what lies behind it."""
    inner = _driver_error(error)
    number = code(inner)
    text = str(inner.args[1]) if number and len(inner.args) > 1 else str(inner) or type(inner).__name__
    cause = inner.__cause__ if isinstance(inner, DatabaseError) else None
    if isinstance(cause, OSError) and str(cause):
        text = f"{text}: {cause}"
    kind = NotYet if _passes(inner, number) else StoreUnavailable
    return kind(f"{server}: {text}" + (f" ({number})" if number else ""))


def _passes(error: BaseException, number: int) -> bool:
    if any(isinstance(one, ssl.SSLCertVerificationError) for one in _causes(error)):
        return False
    return number in _PASSING or isinstance(error, OSError)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _driver_error(error: BaseException) -> BaseException:
    """SQLAlchemy's pool wraps what happens at connecting."""
    inner = getattr(error, "orig", None)
    return inner if isinstance(inner, BaseException) else error
