"""What the accounts side announces, and a name that is taken twice, on several nodes in one process."""

from __future__ import annotations

import json

from aldis.bridge.memory_status import MemoryUserStatus
from aldis.bridge.memory_transfer import MemoryTransfer
from aldis.broker.cluster import Links
from aldis.broker.ports import AccessRevoked, RelationChanged
from tests.unit.broker.chat import Shared, chatting
from tests.unit.broker.test_cluster import FRIENDS, LIMITS, Nodes, message, nodes


class TestAnnouncements:
    async def test_a_kick_ends_the_connection_on_another_node(self) -> None:
        async with nodes(FRIENDS) as made:
            ben = await made[1].person("ben")
            made[0].bus.announce(AccessRevoked("ben", device="phone"))
            assert await made[0].bus.settled()
            await ben.closed()

    async def test_a_kick_that_was_not_heard_is_found_in_the_log_once(self) -> None:
        async with nodes(FRIENDS) as made:
            ben = await made[1].person("ben")
            made.wire.cut("b")
            kick = AccessRevoked("ben", device="phone")
            made.friends.log.append((1, kick))
            made[0].bus.announce(kick, 1)
            await ben.closed()
            again = await made[1].person("ben")
            await made.sweep(1)
            await made.sweep(1)
            await again.nothing()

    async def test_what_was_announced_before_a_node_began_concerns_nobody_there(self) -> None:
        made = Nodes(FRIENDS)
        made.friends.log.append((1, AccessRevoked("ben", device="phone")))
        way = Links(MemoryTransfer("a", made.wire, limits=LIMITS), MemoryUserStatus("a", made.board))
        async with chatting(shared=Shared(made.store, made.friends), way=way) as chat:
            made.chats.append(chat)
            await made.know_each_other()
            ben = await chat.person("ben")
            await made.sweep(0)
            await ben.nothing()

    async def test_a_block_counts_on_every_node_once_it_is_settled(self) -> None:
        async with nodes(FRIENDS) as made:
            ann, ben = await made[0].person("ann"), await made[1].person("ben")
            made.friends.pairs.clear()
            made[1].bus.announce(RelationChanged("ann", "ben"))
            assert await made[1].bus.settled()
            ann.say("ben", {"body": "x"}, id=1)
            assert (await message(ann))["reason"] == "not_friend"
            await ben.nothing()

    async def test_a_device_that_was_removed_is_ended_by_the_sweep_too(self) -> None:
        async with nodes(FRIENDS) as made:
            ben = await made[1].person("ben")
            await made.store.forget_device("ben", "phone")
            await made.sweep(1)
            await ben.closed()


async def test_a_younger_process_of_the_same_name_sends_everybody_away() -> None:
    made = Nodes(FRIENDS)
    way = Links(MemoryTransfer("a", made.wire, limits=LIMITS), MemoryUserStatus("a", made.board))
    async with chatting(shared=Shared(made.store, made.friends), way=way) as chat:
        ben = await chat.person("ben")
        younger = MemoryUserStatus("a", made.board)
        assert chat.cluster is not None
        await younger.open(chat.cluster)
        await ben.closed()
        assert chat.node.not_ready_reasons
        assert json.dumps(sorted(chat.node.not_ready_reasons))
