"""Who has not made sure for a while, or may have missed a take-over, does not deliver as the owner."""

from __future__ import annotations

from aldis.broker.ownership import Ownership


class World:
    def __init__(self) -> None:
        self.now = 100.0
        self.heard = float("-inf")
        self.ownership = Ownership(lambda: self.heard, lambda: self.now, 3.0)


def test_it_is_certain_at_the_start_and_for_the_limit() -> None:
    world = World()
    assert world.ownership.certain()
    world.now += 3.0
    assert world.ownership.certain()
    world.now += 0.1
    assert not world.ownership.certain()


def test_an_own_heartbeat_that_comes_back_makes_certain_from_when_it_was_sent() -> None:
    world = World()
    world.now, world.heard = 110.0, 108.0
    assert world.ownership.certain()
    world.now = 111.1
    assert not world.ownership.certain()  # frozen since: the heartbeats in the socket are from before


def test_after_a_hole_heartbeats_do_not_help_until_the_store_was_asked() -> None:
    world = World()
    world.now = world.heard = 105.0
    too_early = world.ownership.begin()
    world.ownership.doubt()
    assert not world.ownership.certain()
    world.now = world.heard = 106.0
    assert not world.ownership.certain()
    world.ownership.checked(too_early)
    assert not world.ownership.certain()
    world.ownership.checked(world.ownership.begin())
    assert world.ownership.certain()
    world.now = world.heard = 120.0
    assert world.ownership.certain()  # and they help again


def test_a_doubt_and_the_reading_that_settles_it_may_have_the_same_time() -> None:
    world = World()
    world.ownership.doubt()
    check = world.ownership.begin()
    world.now += 0.1
    world.ownership.checked(check)
    assert world.ownership.certain()
    world.now = world.heard = 120.0
    assert world.ownership.certain()


def test_without_heartbeats_readings_of_the_store_are_enough() -> None:
    world = World()
    for _ in range(10):
        world.now += 1.0
        world.ownership.checked(world.ownership.begin())
        assert world.ownership.certain()


def test_a_reading_that_began_earlier_takes_nothing_back() -> None:
    world = World()
    earlier = world.ownership.begin()
    world.now = 110.0
    world.ownership.checked(world.ownership.begin())
    world.ownership.checked(earlier)
    assert world.ownership.certain()
