"""Once, and in order: the sender's ids and counters (promises 2 and 3; article 8.2)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from amqtt.plugins.base import BasePlugin

from aldis.broker.core.envelope import Reason
from aldis.broker.core.idempotency import PENDING, RecentIds
from aldis.broker.core.reorder import Action, Held, Overflow, Release, Reorder, Repeat
from aldis.broker.core.session import Session
from aldis.broker.pipeline import INBOX_LEVELS, Publication
from aldis.broker.ports import StoreUnavailable
from aldis.plugins.envelopes import read_envelope
from aldis.plugins.first_results import SenderGone, first_result
from aldis.plugins.services import services_of

if TYPE_CHECKING:
    from aldis.broker.cluster_ports import Told
    from aldis.plugins.services import Services


class Ordering(BasePlugin):  # type: ignore[type-arg]
    """A repeat of an `id` gets the first result; a publish with a `seq` goes on only when all before it have.

    What is remembered here is a window, for speed: an id that has left it is found by the store's unique key, and a
    counter's last value is read from the store when a device first uses it on a connection.
    """

    @dataclass
    class Config:
        """Options in the profile; the bounds of the hold-back are in `limits` and `timeouts`."""

        recent_ids: int = 32
        """Committed ids remembered per connected device: more than any common client has in flight (paho: 20)."""

    def __init__(self, context: object) -> None:
        super().__init__(context)
        self._services = services_of(context)
        self._streams: dict[tuple[str, str], DeviceStream] = {}
        self._holding: set[DeviceStream] = set()
        self._services.node.on_tick.append(self._expire)
        self._services.node.on_corrected.append(self._corrected)

    def handle_publish(self, publication: Publication) -> bool:
        """A stage of the pipeline: lets a chat publish go on when it is new and its turn has come."""
        levels = publication.levels
        if levels[0] != "inbox" or len(levels) != INBOX_LEVELS or levels[2] != "chat":
            return True
        if publication.connection.closed is not None:
            publication.abandon()  # a plugin has taken its time to allow it: the client will send it again
            return False
        services = self._services
        if publication.envelope is None and not read_envelope(publication, services.settings.limits):
            return False
        key = (publication.user, publication.device)
        stream = self._streams.get(key)
        if stream is None:
            stream = self._streams[key] = DeviceStream(self, services, self.config.recent_ids)
        return stream.accept(publication)

    def disconnected(self, session: Session) -> None:
        """The connection is gone: what was held back was never acknowledged, so the client will send it again."""
        stream = self._streams.get((session.user, session.device))
        if stream is not None:
            stream.drop()
            self._holding.discard(stream)
            self.forget_if_idle(session.user, session.device, stream)

    def _corrected(self, told: Told) -> None:
        """What the journal took for new was a repeat: the window has the first result from now on."""
        stream = self._streams.get((told.user, told.device))
        if stream is not None and told.id is not None:
            stream.corrected(told.id, told.mid, told.ts)

    def forget_if_idle(self, user: str, device: str, stream: DeviceStream) -> None:
        """Memory for devices that are away is kept only while their commits are running."""
        if stream.idle:
            self._streams.pop((user, device), None)

    def gauges(self) -> dict[str, int]:
        """For the metrics: publishes that wait for a missing `seq` now."""
        return {"held_back": sum(stream.held for stream in self._holding)}

    def hold(self, stream: DeviceStream) -> None:
        self._holding.add(stream)

    def _expire(self, now: float) -> None:
        for stream in list(self._holding):
            if not stream.expire(now):
                self._holding.discard(stream)


class DeviceStream:
    """The ids and the counters of one device."""

    def __init__(self, plugin: Ordering, services: Services, recent_ids: int) -> None:
        self._plugin = plugin
        self._services = services
        self._recent: RecentIds[Publication] = RecentIds(recent_ids)
        self._orders: dict[str, Reorder[Publication]] = {}
        self._present = True

    @property
    def idle(self) -> bool:
        return not self._present and not self._recent.in_flight and all(o.idle for o in self._orders.values())

    @property
    def held(self) -> int:
        return sum(len(order) for order in self._orders.values())

    def accept(self, publication: Publication) -> bool:
        """True: go on. False: it waits, or has had its answer."""
        self._present = True
        envelope = publication.envelope
        assert envelope is not None
        if envelope.id is not None:
            known = self._recent.begin(envelope.id)
            if known is PENDING:
                self._recent.attach(envelope.id, publication)
                publication.waits()
                return False
            if known is not None:
                publication.committed(*known)
                return False
        publication.stream = self
        if envelope.seq is None:
            return True
        return self._in_turn(publication, envelope.seq)

    def committed(self, publication: Publication, mid: int, ts: int) -> None:
        """`Publication` tells its stream that it is durable."""
        envelope = publication.envelope
        assert envelope is not None
        if envelope.id is not None:
            for waiter in self._recent.done(envelope.id, mid, ts):
                waiter.committed(mid, ts)
        if envelope.seq is not None:
            order = self._orders.get(publication.levels[1])
            if order is not None:
                order.committed(envelope.seq)
        if not self._present:
            self._plugin.forget_if_idle(publication.user, publication.device, self)

    def corrected(self, id: str, mid: int, ts: int) -> None:
        """The first result for this id, which was answered with another."""
        for waiter in self._recent.done(id, mid, ts):
            waiter.committed(mid, ts)

    # seq

    def _in_turn(self, publication: Publication, seq: int) -> bool:
        recipient = publication.levels[1]
        order = self._orders.get(recipient)
        if order is None:
            settings = self._services.settings
            order = Reorder(settings.limits.max_hold_back, settings.timeouts.hold_back)
            self._orders[recipient] = order
        unloaded = order.expected is None
        action = order.offer(seq, publication, self._services.node.now)
        if isinstance(action, Release) and len(action.items) == 1:
            return True
        if isinstance(action, Held):
            publication.waits()
        self._act(action)
        if unloaded and len(order) == 1 and isinstance(action, Held):
            self._services.node.spawn(self._load(publication, order), "read the last seq")
        return False

    def _act(self, action: Action[Publication]) -> None:
        match action:
            case Release(items):
                for item in items:
                    item.proceed()
            case Repeat(item, first):
                self._repeat(item, first)
            case Overflow(item):
                self._fail(item, Reason.HOLD_BACK_FULL)
            case Held():
                self._plugin.hold(self)

    def _repeat(self, item: Publication, first: Publication | None) -> None:
        """A number that came before. The same message again is acknowledged and dropped; another one under the number
        of the first is the sender's mistake, and silence would lose it."""
        envelope = item.envelope
        assert envelope is not None
        if first is not None:
            assert first.envelope is not None
            if first.envelope.id == envelope.id and first.envelope.content == envelope.content:
                item.stream = None
                item.follow(first)
            else:
                self._fail(item, Reason.STALE_SEQ)
        elif envelope.id is None:
            item.settle()
        else:
            self._services.node.spawn(self._find(item, envelope.id), "find a repeat")

    async def _find(self, item: Publication, id: str) -> None:
        try:
            stored = await first_result(self._services, item, id)
        except SenderGone:
            self._give_up(item)
            return
        if stored is None:
            self._fail(item, Reason.STALE_SEQ)
        else:
            item.committed(stored.mid, stored.created)

    async def _load(self, publication: Publication, order: Reorder[Publication]) -> None:
        services = self._services
        user, device, recipient = publication.user, publication.device, publication.levels[1]
        while publication.connection.closed is None:
            try:
                last = await services.inboxes.last_seq(user, device, recipient)
            except StoreUnavailable:
                await asyncio.sleep(services.settings.timeouts.commit_retry)
                continue
            if publication.connection.closed is None:
                for action in order.loaded(last, services.node.now):
                    self._act(action)
            return

    def expire(self, now: float) -> bool:
        """Fails what has waited too long for a missing number. False when nothing is held any more."""
        held = 0
        for order in self._orders.values():
            for publication in order.expire(now):
                self._fail(publication, Reason.GAP)
            held += len(order)
        return held > 0

    def _fail(self, publication: Publication, reason: Reason) -> None:
        envelope = publication.envelope
        assert envelope is not None
        waiters = self._recent.abandon(envelope.id) if envelope.id is not None else []
        for each in (publication, *waiters):
            each.reject(reason)

    def _give_up(self, publication: Publication) -> None:
        envelope = publication.envelope
        assert envelope is not None
        waiters = self._recent.abandon(envelope.id) if envelope.id is not None else []
        for each in (publication, *waiters):
            each.abandon()

    def drop(self) -> None:
        """The connection is gone."""
        self._present = False
        for order in self._orders.values():
            for publication in order.drop():
                self._give_up(publication)
        self._orders = {recipient: order for recipient, order in self._orders.items() if not order.idle}
        for waiter in self._recent.detach_all():
            waiter.abandon()
