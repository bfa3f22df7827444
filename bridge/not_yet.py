"""Trouble at the start of a process that time may heal."""

from aldis.broker.ports import StoreUnavailable


class NotYet(StoreUnavailable):
    """The database server is not there yet, or its tables are not made yet. A wrong password, a name that the server
    does not know, a certificate that is no good are nothing of the kind."""
