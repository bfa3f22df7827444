"""A device comes to this node, wherever it was: who held it lets go of it, and hands its persistent session over.

    CONNECT -> arrive -> user status: held by another node?
                         TakenOver -> that node: the old connection ends
                         SessionHanded <- its persistent session, if the client asked for one
            -> CONNACK

Nothing depends on it: a node that does not hear of the take-over is fenced by the store's epoch, and a session that
does not come in time begins anew (session present = 0)."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from aldis.broker.cluster_ports import SessionHanded, TakenOver, Transfer
from aldis.broker.session_hand_over import Handing, adopt, hand_over, parcels

if TYPE_CHECKING:
    from aldis.broker.connection import Connection
    from aldis.broker.holdings import Holdings
    from aldis.broker.node import Node

logger = logging.getLogger(__name__)

_Key = tuple[str, str, int]
"""User, device, turn: one take-over."""


class Takeovers:
    """Keeps `aldis.broker.decisions.Arrivals`. `transfer` is None where there is one node only; `patience`, in seconds,
    is for a session that is handed over."""

    def __init__(
        self, node: Node, holdings: Holdings, transfer: Transfer | None = None, *, patience: float = 1.0
    ) -> None:
        self.holdings = holdings
        self._node = node
        self._transfer = transfer
        self._patience = patience
        self._handing: dict[_Key, tuple[Handing, asyncio.Future[None]]] = {}

    # A device comes

    async def arrive(self, connection: Connection, user: str, device: str, *, clean: bool) -> None:
        arrival = await self.holdings.arrive(user, device)
        connection.holding = arrival.holding
        previous, transfer = arrival.previous, self._transfer
        if transfer is None or previous is None or previous.node == transfer.node:
            return
        # what is here of an earlier stay is out of date: the device was elsewhere since
        hand_over(self._node, user, device)
        told = TakenOver(user, device, arrival.holding.turn, clean)
        if clean:
            transfer.send(previous.node, told)
            return
        handing = await self._handed(transfer, previous.node, told)
        if handing.complete and handing.portions and connection.closed is None:
            if connection.holding is self.holdings.holding(user, device):
                adopt(self._node, user, device, handing.portions)

    async def _handed(self, transfer: Transfer, node: str, told: TakenOver) -> Handing:
        key = (told.user, told.device, told.turn)
        handing, done = Handing(), asyncio.get_running_loop().create_future()
        self._handing[key] = handing, done
        transfer.send(node, told)
        try:
            async with asyncio.timeout(self._patience):
                await done
        except TimeoutError:
            logger.info(
                "a session was not handed over in time and begins anew",
                extra={"user": told.user, "device": told.device, "node": node},
            )
        finally:
            del self._handing[key]
        return handing

    def session_handed(self, parcel: SessionHanded) -> None:
        """A part of a session that we wait for, or have waited for."""
        found = self._handing.get((parcel.user, parcel.device, parcel.turn))
        if found is None:
            return
        handing, done = found
        handing.take(parcel)
        if (handing.complete or handing.void) and not done.done():
            done.set_result(None)

    # A device goes

    def left(self, connection: Connection, *, away: bool) -> None:
        if connection.holding is not None:
            self.holdings.left(connection.holding, away=away)

    def gone(self, user: str, device: str) -> None:
        self.holdings.gone(user, device)

    def taken_over(self, source: str, told: TakenOver) -> None:
        """Another node says that it has the device now."""
        user, device = told.user, told.device
        mine = self.holdings.holding(user, device)
        portions = None
        if mine is None or mine.turn < told.turn:  # else it has come back to us since
            self.holdings.lost(user, device)
            portions = hand_over(self._node, user, device)
        if self._transfer is not None and not told.clean:
            for parcel in parcels(user, device, told.turn, portions):
                self._transfer.send(source, parcel)

    def lost(self, user: str, device: str) -> None:
        """The user status says that another node has taken the device, and we were not told."""
        self.holdings.lost(user, device)
        hand_over(self._node, user, device)
