"""The receiving half of a transfer: which frames are taken, and what is known of those who send them. Pure.

Times come in twice: `now` is Unix time in milliseconds, to be compared with what other machines say; `moment` is
seconds of a clock that never jumps, to tell how long a node has been silent.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from aldis.bridge.frames import ALL, Answered, Asked, Beat, Bye, Frame, Seal, TransferFigures
from aldis.broker.cluster_ports import AnyParcel


class Taken(msgspec.Struct, gc=False):
    """A frame that is to be handed over. `joined`: its node was not there before, or is another process now. `missed`:
    something before it is lost. `own`: it is one of ours that came back."""

    source: str
    parcels: list[AnyParcel]
    notes: list[Beat | Asked | Answered | Bye]
    joined: bool = False
    missed: bool = False
    own: bool = False


class _Source:
    """What one process has been heard to say: the last number to us alone, the last to all.

    To all, nothing is missing from `whole_from` on; what was missing before was found so at `broken`."""

    __slots__ = ("alive", "broken", "heard", "incarnation", "mine", "told", "whole_from")

    def __init__(self, incarnation: int, mine: int, told: int, moment: float) -> None:
        self.incarnation = incarnation
        self.mine = mine
        self.told = told
        self.whole_from = told + 1
        self.broken = moment
        self.heard = moment
        self.alive = True


class Inbound:
    """A frame is taken at most once, and never after one that was sent later. What is lost is found out by the next
    frame that comes from its sender, a heartbeat at the latest; what was sent before the sender was first heard is not
    called lost. A new process of a known node begins at number 1 and is `joined`: that its predecessor took something
    unsent with it must be reckoned with.

    A frame is refused when its time differs by more than `max_age` milliseconds from ours. What is known of a node is
    kept until no frame of it could be taken any more if it were played again; after that its clock may even have been
    put back.
    """

    def __init__(self, node: str, incarnation: int, seal: Seal, figures: TransferFigures, *, max_age: int) -> None:
        self._node = node
        self._incarnation = incarnation
        self._seal = seal
        self._figures = figures
        self._max_age = max_age
        self._own = 0
        self._sources: dict[str, _Source] = {}

    @property
    def alive(self) -> Mapping[str, float]:
        """The living nodes, and the moment at which each was last heard."""
        return {name: source.heard for name, source in self._sources.items() if source.alive}

    def take(self, data: bytes, now: int, moment: float) -> Taken | str:
        """The frame, or why it is refused (`frames.REASONS`). Never raises, whatever the bytes are."""
        frame = self._seal.opened(data)
        if isinstance(frame, Frame):
            taken = self._judge(frame, now, moment)
            if isinstance(taken, Taken):
                self._figures.frames_received += 1
                self._figures.parcels_received += len(taken.parcels)
                self._figures.bytes_received += len(data)
                self._figures.holes += taken.missed
                return taken
        else:
            taken = frame
        self._figures.refused[taken] += 1
        return taken

    def _judge(self, frame: Frame, now: int, moment: float) -> Taken | str:
        if frame.target != self._node and frame.target != ALL:
            return "target"
        if abs(now - frame.sent) > self._max_age:
            return "age"
        if frame.source == self._node:
            return self._came_back(frame)
        to_all = frame.target == ALL
        mine, told = (
            (frame.stands.get(self._node, 0), frame.number) if to_all else (frame.number, frame.stands.get(ALL, 0))
        )
        source = self._sources.get(frame.source)
        if source is None:
            source = _Source(frame.incarnation, mine, told, moment)
            source.whole_from -= to_all
            self._sources[frame.source] = source
            return Taken(frame.source, frame.parcels, frame.notes, joined=True)
        if frame.incarnation < source.incarnation:
            return "process"
        joined = not source.alive
        if frame.incarnation > source.incarnation:
            source = self._sources[frame.source] = _Source(frame.incarnation, 0, 0, moment)
            joined = True
        if frame.number <= (source.told if to_all else source.mine):
            return "repeat"
        lost_to_all = told > source.told + to_all
        missed = lost_to_all or mine > source.mine + (not to_all)
        if lost_to_all:
            source.whole_from, source.broken = told + (not to_all), moment
        source.mine = max(source.mine, mine)
        source.told = max(source.told, told)
        source.heard = moment
        source.alive = True
        return Taken(frame.source, frame.parcels, frame.notes, joined, missed)

    def _came_back(self, frame: Frame) -> Taken | str:
        if frame.incarnation != self._incarnation:
            return "name"
        if frame.number <= self._own:
            return "repeat"
        self._own = frame.number
        return Taken(frame.source, [], frame.notes, own=True)

    def whole_from(self, node: str, moment: float, forgiven: float) -> int:
        """The number from which on everything that `node` told to all has come. A hole is forgiven after so many
        seconds: by then its receiver has read again what it was about."""
        source = self._sources[node]
        return source.whole_from if moment - source.broken <= forgiven else 0

    def leave(self, node: str) -> bool:
        """The node has said good-bye. False if it was not there."""
        source = self._sources.get(node)
        if source is None or not source.alive:
            return False
        source.alive = False
        return True

    def silent(self, moment: float, since: float, timeout: float) -> list[str]:
        """Those who are gone because they were not heard for `timeout` seconds, all of them after `since`."""
        gone = []
        for name, source in [*self._sources.items()]:
            if source.alive:
                if moment - max(source.heard, since) > timeout:
                    source.alive = False
                    gone.append(name)
            elif (moment - source.heard) * 1_000 > 2 * self._max_age:
                # a frame may have been sent max_age ahead of our clock, and is good until max_age behind it
                del self._sources[name]
        return gone
