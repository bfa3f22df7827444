"""MQTT over WebSocket (MQTT 3.1.1 chapter 6): frames by the websockets library, without its I/O; MQTT by
`Connection`."""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from typing import Any, cast

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from aldis.broker.arrival import address_of
from aldis.broker.connection import Connection
from aldis.broker.core.reasons import CloseReason
from aldis.broker.listener import Listener
from aldis.broker.node import Node

_MQTT = Subprotocol("mqtt")
_FRAME_ALLOWANCE = 65_536
"""Bytes by which a frame may exceed one MQTT packet: clients put several packets into one frame."""

_quiet = logging.getLogger("aldis.broker.websocket.frames")
_quiet.setLevel(logging.WARNING)


class WebSocketServerProtocol(asyncio.Protocol):
    """Is the protocol of a TCP connection and, at the same time, the transport of the MQTT connection inside."""

    def __init__(self, node: Node, listener: Listener) -> None:
        self._connection = Connection(node, listener)
        self._frames = ServerProtocol(
            subprotocols=[_MQTT], max_size=node.limits.max_packet_size + _FRAME_ALLOWANCE, logger=_quiet
        )
        self._refused = False  # what follows is not read any more, though it may have come in the same segment
        self._max_write_buffer = node.limits.max_write_buffer
        self._transport: asyncio.Transport

    # The protocol of the TCP connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.accepted(cast("asyncio.Transport", transport), address_of(transport))

    # See `Newcomer`

    def accepted(self, transport: asyncio.Transport, address: str) -> None:
        self._use(transport)
        self._connection.begin(self, address)

    def entered(self, transport: asyncio.Transport) -> None:
        self._use(transport)
        transport.set_protocol(self)

    def refused(self, transport: asyncio.Transport, address: str, reason: CloseReason, detail: str = "") -> None:
        self._connection.refused(transport, address, reason, detail)

    def end(self, reason: CloseReason, detail: str = "") -> None:
        self._connection.end(reason, detail)

    @property
    def closed(self) -> CloseReason | None:
        return self._connection.closed

    def _use(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        transport.set_write_buffer_limits(high=self._max_write_buffer)

    # From the network

    def data_received(self, data: bytes) -> None:
        self._frames.receive_data(data)
        for event in self._frames.events_received():
            if self._refused:
                break
            if isinstance(event, Request):
                self._answer(event)
            elif isinstance(event, Frame):
                self._frame(event)
        self._send()

    def eof_received(self) -> bool:
        self._frames.receive_eof()
        self._send()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()

    def _answer(self, request: Request) -> None:
        if self._frames.close_expected():
            # broken frames came right behind the request: there is nothing to be answered any more
            self._refused = True
            self._frames.data_to_send()
            self._transport.close()
            return
        response = self._frames.accept(request)
        if response.status_code == HTTPStatus.SWITCHING_PROTOCOLS and self._frames.subprotocol != _MQTT:
            # [MQTT-6.0.0-3], [MQTT-6.0.0-4]
            response = self._frames.reject(HTTPStatus.BAD_REQUEST, "The subprotocol must be mqtt.\n")
        self._refused = response.status_code != HTTPStatus.SWITCHING_PROTOCOLS
        early = self._frames.data_to_send()  # the answer to a ping that came right behind the request
        self._frames.send_response(response)
        self._send()
        if not self._refused:
            self._transport.writelines(early)

    def _frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.BINARY or frame.opcode is Opcode.CONT:
            self._connection.data_received(bytes(frame.data))
        elif frame.opcode is Opcode.TEXT:
            self._refused = True
            self._frames.fail(1003, "MQTT travels in binary frames")  # [MQTT-6.0.0-1]

    def _send(self) -> None:
        for data in self._frames.data_to_send():
            if data:
                self._transport.write(data)
            else:
                self._transport.close()
        if self._frames.close_expected():
            self._transport.close()

    # The transport of the MQTT connection

    def write(self, data: bytes) -> None:
        if self._frames.state is State.OPEN:
            self._frames.send_binary(data)
            self._send()

    def close(self) -> None:
        if self._frames.state is State.OPEN:
            self._frames.send_close(1000)
            self._send()
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def get_extra_info(self, name: str) -> Any:
        return self._transport.get_extra_info(name)
