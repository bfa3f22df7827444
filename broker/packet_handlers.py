"""What each packet of an accepted client does: one function each, by packet type (MQTT 3.1.1 chapter 3).

A handler that has to wait for someone returns what is to be awaited; the connection is suspended until then.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, cast

from aldis.broker.core.codec import PINGRESP, PUBACK, encode_unsuback
from aldis.broker.core.envelope import Reason
from aldis.broker.core.packets import (
    Connect,
    Disconnect,
    Message,
    Pingreq,
    Puback,
    Pubcomp,
    Pubrec,
    Pubrel,
    Subscribe,
    Unsubscribe,
)
from aldis.broker.core.reasons import CloseReason, ProtocolViolation
from aldis.broker.core.session import Session, encode_pubrec
from aldis.broker.core.token_bucket import Verdict
from aldis.broker.pipeline import Answer, Publication
from aldis.broker.subscribing import subscribe, unsubscribe

if TYPE_CHECKING:
    from aldis.broker.connection import Connection

Pending = Coroutine[Any, Any, None]


def on_connect(_connection: Connection, _session: Session, _packet: Connect) -> None:
    raise ProtocolViolation(CloseReason.OUT_OF_STATE, "a second CONNECT")  # [MQTT-3.1.0-2]


def on_publish(connection: Connection, session: Session, packet: Message) -> Pending | None:
    """Through the stages of the pipeline where there are any, else straight to the subscribers."""
    node = connection.node
    if packet.topic[0] == "$":
        _refuse(connection, session, packet, Reason.FORBIDDEN)
        return None
    allowance = connection.allowance
    if allowance is not None:
        verdict = allowance.take(len(packet.topic) + len(packet.payload), node.now)
        if verdict and not _taken_on_credit(connection, session, packet, verdict):
            return None
    if packet.qos == 2:
        return _on_publish_exactly(connection, session, packet)
    if node.publish_gate is not None:
        return node.publish_gate(_publication(connection, session, packet))
    if node.stages:
        _publication(connection, session, packet).proceed()
        connection.limit_unacknowledged()
    else:
        node.figures.plain[packet.qos] += 1
        node.router.publish(packet)
        if packet.qos:
            connection.acks.at_once(PUBACK + packet.packet_id.to_bytes(2, "big"), connection.out)
    return None


def _on_publish_exactly(connection: Connection, session: Session, packet: Message) -> Pending | None:
    publication = _publication(connection, session, packet)
    if session.begin_incoming(packet.packet_id, publication):
        gate = connection.node.publish_gate
        if gate is not None:
            return gate(publication)
        try:
            publication.proceed()
        except Exception:
            publication.abandon()  # never passed on, so its repeat counts as new
            raise
    else:
        earlier = session.pending_incoming(packet.packet_id)
        if isinstance(earlier, Publication):
            earlier.share(publication)  # its first PUBLISH came on a connection that is gone
        else:
            if earlier is not None:
                connection.receipt(*cast("Answer", earlier))  # it may have been lost with the PUBREC
            connection.acks.settle(publication, connection.out)
    connection.limit_unacknowledged()
    return None


def _taken_on_credit(connection: Connection, session: Session, packet: Message, verdict: Verdict) -> bool:
    """The user publishes too much: we stop reading. What was read already is taken up to a second burst, then
    refused."""
    node = connection.node
    node.allowances.wait(connection, session.user, node.now)
    if verdict is Verdict.OVERDRAWN or (packet.qos == 2 and session.knows_incoming(packet.packet_id)):
        return True  # the repeat of a QoS 2 PUBLISH gets the answer of the first
    _refuse(connection, session, packet, Reason.RATE)
    connection.limit_unacknowledged()
    return False


def _refuse(connection: Connection, session: Session, packet: Message, reason: Reason) -> None:
    """FORBIDDEN: what begins with '$' is the server's own, whatever plugins are loaded [4.7.2]."""
    publication = _publication(connection, session, packet)
    if packet.qos == 2 and not session.begin_incoming(packet.packet_id, publication):
        publication.settle()  # a repeat of what was refused
    else:
        publication.reject(reason)


def _publication(connection: Connection, session: Session, packet: Message) -> Publication:
    if packet.qos == 1:
        wire = PUBACK + packet.packet_id.to_bytes(2, "big")
    else:
        wire = encode_pubrec(packet.packet_id) if packet.qos else b""
    publication = Publication(connection, session, packet, wire)
    connection.node.figures.received_on(publication.levels, packet.qos)
    connection.acks.join(publication)
    return publication


def on_puback(connection: Connection, session: Session, packet: Puback) -> None:
    message = session.acknowledged(packet.packet_id)
    if connection.device is not None and message is not None:
        if message.n:
            connection.node.item_acknowledged(connection, message)
        else:
            connection.node.drained(connection)


def on_pubrec(connection: Connection, session: Session, packet: Pubrec) -> None:
    message = session.received(packet.packet_id)
    if connection.device is not None and message is not None and message.n:
        connection.node.item_acknowledged(connection, message)


def on_pubrel(_connection: Connection, session: Session, packet: Pubrel) -> None:
    session.release_incoming(packet.packet_id)


def on_pubcomp(connection: Connection, session: Session, packet: Pubcomp) -> None:
    session.completed(packet.packet_id)
    if connection.device is not None:
        connection.node.drained(connection)


def on_subscribe(connection: Connection, session: Session, packet: Subscribe) -> Pending:
    return subscribe(connection.node, connection, session, packet)


def on_unsubscribe(connection: Connection, session: Session, packet: Unsubscribe) -> None:
    unsubscribe(connection.node, connection, session, packet)
    connection.out.append(encode_unsuback(packet.packet_id))


def on_pingreq(connection: Connection, _session: Session, _packet: Pingreq) -> None:
    connection.out.append(PINGRESP)


def on_disconnect(connection: Connection, session: Session, _packet: Disconnect) -> None:
    session.will = None  # [MQTT-3.1.2-10]
    connection.end(CloseReason.CLIENT_DISCONNECTED)


HANDLERS: dict[type, Callable[[Connection, Session, Any], Pending | None]] = {
    Message: on_publish,
    Puback: on_puback,
    Pubrec: on_pubrec,
    Pubrel: on_pubrel,
    Pubcomp: on_pubcomp,
    Subscribe: on_subscribe,
    Unsubscribe: on_unsubscribe,
    Pingreq: on_pingreq,
    Disconnect: on_disconnect,
    Connect: on_connect,
}
