"""What every transfer does, whatever carries its frames: heartbeats, peers, the end of a tick, who has handled what.

Nothing here makes a task: what arrives is handled in the call that brings it, what leaves goes out at the end of the
turn of the loop, and one timer looks after heartbeats, silence and peers.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from aldis.bridge.frames import ALL, Answered, Asked, Beat, Bye, Seal, TransferFigures
from aldis.bridge.frames_in import Inbound, Taken
from aldis.bridge.frames_out import Outbound
from aldis.bridge.questions import Questions
from aldis.broker.cluster_ports import AnyParcel, Receiver

logger = logging.getLogger(__name__)

_SAID_AGAIN = 60.0
"""Seconds until the same complaint is logged again, with how often there was a reason meanwhile."""


_LEAVING = 1.0
"""Seconds, at most, for what waits at the end to leave."""


@dataclass(frozen=True, kw_only=True)
class TransferLimits:
    """Seconds and bytes; the reasons are told where the configuration names them."""

    heartbeat: float = 0.5
    """Seconds between two heartbeats."""
    silence: float = 2.0
    """Seconds without one of our own coming back until the link counts as broken, and is made anew. So long, too, do
    parcels wait for a link."""
    peer_timeout: float = 5.0
    """Seconds without a frame of another node until it counts as gone."""
    max_frame_size: int = 1_048_576
    """Bytes of one frame."""
    max_waiting_bytes: int = 16_777_216
    """Bytes of parcels that wait for the link, all targets together."""
    max_frame_age: float = 30.0
    """Seconds by which the time in a frame may differ from our clock."""


class FramedTransfer(ABC):
    """Keeps `aldis.broker.cluster_ports.Transfer`, but for what carries the frames; that is a subclass.

    A subclass calls `_listening` when from now on everything arrives, `_deaf` when that is over, `_arrived` with what
    arrives, `_flush` when it can take frames again; and has the four methods at the end of this class.

    A node of which a younger process is heard is `joined` again without having been `gone`. While our own link is down
    nobody is called gone: we cannot know.
    """

    def __init__(self, node: str, *, key: bytes, limits: TransferLimits) -> None:
        self.node = node
        self.limits = limits
        self.figures = TransferFigures()
        self.heard = -math.inf
        self._seal = Seal(key)
        self._incarnation = time.time_ns() // 1_000_000
        self._out = Outbound(
            node,
            self._incarnation,
            self._seal,
            self.figures,
            max_frame_size=limits.max_frame_size,
            max_waiting_bytes=limits.max_waiting_bytes,
        )
        self._in = Inbound(
            node, self._incarnation, self._seal, self.figures, max_age=round(limits.max_frame_age * 1_000)
        )
        self._receiver: Receiver | None = None
        self._loop: asyncio.AbstractEventLoop
        self._timer: asyncio.TimerHandle | None = None
        self._closing: asyncio.Future[None] | None = None
        self._drained, self._left = asyncio.Event(), asyncio.Event()
        """Set when nothing waits; when our good-bye has come back. Only looked at while closing."""
        self._flush_due = False
        self._listening_since = math.inf
        self._deaf_since = 0.0
        self._connected_since = -math.inf
        self._links = 0
        self._unanswered = 0
        self._questions = Questions()
        self._complaints: dict[str, tuple[float, int]] = {}

    # What a node asks for

    @property
    def connected(self) -> bool:
        return self.heard >= self._listening_since and self._loop.time() - self.heard <= self.limits.silence

    @property
    def peers(self) -> Mapping[str, float]:
        return self._in.alive

    def counters(self) -> Mapping[str, int]:
        counted = asdict(self.figures)
        refused: dict[str, int] = counted.pop("refused")
        return counted | {f"refused_{reason}": count for reason, count in refused.items()}

    async def open(self, receiver: Receiver) -> None:
        self._loop = asyncio.get_running_loop()
        self._deaf_since = self._loop.time()
        self._receiver = receiver
        self._timer = self._loop.call_later(self.limits.heartbeat, self._tick)
        self._start()

    async def close(self) -> None:
        if self._receiver is None:
            return
        if self._closing is None:
            self._closing = self._loop.create_future()
            try:
                await self._say_good_bye()
            finally:
                self._closing.set_result(None)
        else:
            await asyncio.shield(self._closing)

    async def _say_good_bye(self) -> None:
        assert self._timer is not None
        self._timer.cancel()
        if self._is_listening:
            self._left.clear()
            self._drained.clear()
            self._flush()
            try:
                async with asyncio.timeout(_LEAVING):
                    await self._drained.wait()
            except TimeoutError:
                logger.warning("%d bytes for other nodes could not leave in time", self._out.waiting_bytes)
        if self._is_listening:
            self._carry([(ALL, self._out.at_once(Bye(), _now()))])
        await self._stop()
        self._out.drop_waiting()
        self._listening_since = math.inf
        self._questions.end()

    def send(self, node: str, parcel: AnyParcel) -> None:
        if node != self.node and self._closing is None:
            self._out.add(node, parcel)
            self._flush_soon()

    def tell(self, parcel: AnyParcel) -> None:
        if self._closing is None:
            self._out.add(ALL, parcel)
            self._flush_soon()

    async def settled(self, seconds: float) -> bool:
        """A peer that found something of it missing has not handled it; the answer is false at once. What was told
        before an earlier call is not asked for again: that call has said how it ended."""
        deadline = asyncio.get_running_loop().time() + seconds
        while not self._knows_everybody():
            left = deadline - self._loop.time()
            if left <= 0 or self._closing is not None:
                return False
            await asyncio.sleep(min(left, self.limits.heartbeat / 4))
        self._flush()
        token, outcome = self._questions.ask(self._out.told)
        if not outcome.done():
            self._out.note(ALL, Asked(token))
            self._flush_soon()
        try:
            async with asyncio.timeout_at(deadline):
                return await outcome and self.connected
        except TimeoutError:
            return False
        finally:
            self._questions.close(token)

    # What leaves

    @property
    def _is_listening(self) -> bool:
        return self._listening_since < math.inf

    def _knows_everybody(self) -> bool:
        """Whoever lives has had the time for a heartbeat since we began to listen."""
        return self.connected and self._loop.time() - self._listening_since >= 2 * self.limits.heartbeat

    def _flush_soon(self) -> None:
        if not self._flush_due and self._receiver is not None and self._closing is None:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Everything that waits leaves, as far as the link takes it."""
        self._flush_due = False
        while self._is_listening and self._out and self._has_room():
            now, frames, size = _now(), [], 0
            while size < 65_536 and (frame := self._out.next(now)) is not None:
                frames.append(frame)
                size += len(frame[1])
            self._carry(frames)
        if not self._out:
            self._drained.set()

    def _tick(self) -> None:
        now = self._loop.time()
        self._timer = self._loop.call_later(self.limits.heartbeat, self._tick)
        if self._is_listening:
            # counted, not timed: a process that stood still has not heard itself, and its link is as good as before
            if self._unanswered * self.limits.heartbeat >= self.limits.silence:
                logger.warning("no heartbeat has come back for %.1f s: the link is made anew", self.limits.silence)
                self._tear_down()
            else:
                self._beat(now)
        elif now - self._deaf_since > self.limits.silence:
            # what waited that long is known from the store by now
            self._out.drop_waiting()
        if self.connected:
            for node in self._in.silent(now, self._connected_since, self.limits.peer_timeout):
                self._node_gone(node)

    def _beat(self, moment: float) -> None:
        self._unanswered += 1
        self._carry([(ALL, self._out.beat(moment, _now()))])

    # What arrives

    def _listening(self) -> None:
        self._listening_since = self._loop.time()
        self._links += 1
        self.figures.reconnects = self._links - 1
        self._unanswered = 0
        self._beat(self._listening_since)
        self._flush()
        # what was published before this moment did not come
        self._tell(lambda receiver: receiver.missed(None))

    def _deaf(self) -> None:
        if self._is_listening:
            self._listening_since = math.inf
            self._deaf_since = self._loop.time()
            self._left.set()
            self._drained.set()

    def _arrived(self, data: bytes) -> None:
        moment = self._loop.time()
        taken = self._in.take(data, _now(), moment)
        if not isinstance(taken, Taken):
            self._refused(taken)
            return
        if not taken.own:
            source = taken.source
            if taken.joined:
                self._node_joined(source)
            if taken.missed:
                self._tell(lambda receiver: receiver.missed(source))
            if taken.parcels:
                self._tell(lambda receiver: receiver.received(source, taken.parcels))
        if taken.notes:
            self._notes(taken, moment)

    def _notes(self, taken: Taken, moment: float) -> None:
        for note in taken.notes:
            if isinstance(note, Beat):
                if taken.own:
                    if not self.connected:
                        self._connected_since = moment
                    self.heard = max(self.heard, note.moment)
                    self._unanswered = 0
            elif taken.own:
                if isinstance(note, Bye):
                    self._left.set()
            elif isinstance(note, Asked):
                whole_from = self._in.whole_from(taken.source, moment, self.limits.peer_timeout)
                self._out.note(taken.source, Answered(note.token, whole_from))
                self._flush_soon()
            elif isinstance(note, Answered):
                self._questions.answered(note.token, taken.source, note.whole_from)
            elif self._in.leave(taken.source):
                self._node_gone(taken.source)

    def _node_joined(self, node: str) -> None:
        logger.info("node %s is there", node)
        self._questions.joined(node, self._out.told)
        self._tell(lambda receiver: receiver.joined(node))

    def _node_gone(self, node: str) -> None:
        logger.info("node %s is gone", node)
        self._questions.gone(node)
        self._tell(lambda receiver: receiver.gone(node))

    def _tell(self, what: Callable[[Receiver], None]) -> None:
        if self._receiver is None or self._closing is not None:
            return
        try:
            what(self._receiver)
        except Exception:
            self.figures.failures += 1
            if times := self._worth_saying("receiver"):
                logger.exception("the receiver of parcels failed (%d times)", times)

    # What is said about it

    def _refused(self, reason: str) -> None:
        times = self._worth_saying(reason)
        if times and reason == "name":
            logger.error("another process calls itself %s, too (%d frames)", self.node, times)
        elif times:
            logger.warning("refused %d frames between nodes: %s", times, reason)

    def _worth_saying(self, what: str) -> int:
        """How often it happened since it was said last; 0 if that is not long ago. `what` is one of a few."""
        now = self._loop.time()
        quiet_until, count = self._complaints.get(what, (now, 0))
        if now < quiet_until:
            self._complaints[what] = (quiet_until, count + 1)
            return 0
        self._complaints[what] = (now + _SAID_AGAIN, 0)
        return count + 1

    # What carries the frames

    @abstractmethod
    def _start(self) -> None:
        """Begins to look for a link, and never gives up until `_stop`."""

    @abstractmethod
    async def _stop(self) -> None:
        """What was carried leaves, within a bounded time; then the link ends. Never raises."""

    @abstractmethod
    def _tear_down(self) -> None:
        """The link is dead, whatever it looks like: another is to be made."""

    @abstractmethod
    def _has_room(self) -> bool:
        """Whether the link takes more now."""

    @abstractmethod
    def _carry(self, frames: list[tuple[str, bytes]]) -> None:
        """Sends these to their targets. Only called while listening."""


def _now() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000
