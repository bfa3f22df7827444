"""Why things are refused or end: enums, so that logs, metrics and a later MQTT 5 can all name the same reasons."""

from __future__ import annotations

from enum import IntEnum, StrEnum


class ConnectReturn(IntEnum):
    """CONNACK return codes [MQTT-3.2.2-3]."""

    ACCEPTED = 0
    UNACCEPTABLE_PROTOCOL = 1
    IDENTIFIER_REJECTED = 2
    SERVER_UNAVAILABLE = 3
    BAD_CREDENTIALS = 4
    NOT_AUTHORISED = 5


class CloseReason(StrEnum):
    """Why a connection ended. The value is what the log and the metrics show."""

    CLIENT_DISCONNECTED = "client disconnected"
    CLIENT_VANISHED = "connection lost"
    MALFORMED = "malformed packet"
    OUT_OF_STATE = "packet out of state"
    PACKET_TOO_LARGE = "packet too large"
    CONNECT_TIMEOUT = "no CONNECT in time"
    KEEP_ALIVE_TIMEOUT = "keep alive exceeded"
    ACKNOWLEDGE_TIMEOUT = "deliveries not acknowledged"
    NOT_READING = "client does not read"
    REFUSED = "CONNECT refused"
    TAKEN_OVER = "taken over by a newer connection"
    TOO_MANY_CONNECTIONS = "too many connections"
    CONNECTING_TOO_FAST = "too many connections in a short time"
    TOO_MANY_FAILURES = "too many failed CONNECTs"
    SHORT_OF_MEMORY = "node short of memory"
    QUEUE_FULL = "too many messages wait for the client"
    TLS_FAILED = "TLS handshake failed"
    UNTRUSTED_BALANCER = "not from a trusted balancer"
    BAD_PROXY_HEADER = "bad PROXY protocol header"
    ACCESS_REVOKED = "access revoked"
    BAD_TOPIC = "bad topic in PUBLISH"
    PLUGIN_FAILED = "a plugin failed"
    SUPERSEDED = "another process is this node now"
    STORE_DOWN = "store down for long"
    SERVER_SHUTDOWN = "server shutting down"
    INTERNAL_ERROR = "internal error"


class ProtocolViolation(Exception):
    """The client broke the protocol; the connection must be closed without an answer [MQTT-4.8.0-1].

    `reason` is for metrics, the text says what was wrong, quoting no payload.
    """

    def __init__(self, reason: CloseReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
