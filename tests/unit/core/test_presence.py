"""What of users' coming and going is told, whatever comes in between: nobody flickers, and the last word is true."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from aldis.broker.core.envelope import render_presence
from aldis.broker.core.presence import REMEMBERED, Comings, reached
from aldis.broker.core.topics import matches

GRACE = 3.0


def taken(comings: Comings, now: float) -> list[tuple[str, bool]]:
    found = []
    while (news := comings.take(now)) is not None:
        found.append(news)
    return found


def settle(comings: Comings, now: float, *, elsewhere: bool = False) -> None:
    for user, since in comings.due(now):
        comings.settle(user, since, elsewhere=elsewhere)


class TestComings:
    def test_who_comes_is_told_at_once_and_who_leaves_after_the_grace(self) -> None:
        comings = Comings(GRACE)
        comings.came("ann")
        assert taken(comings, 0.0) == [("ann", True)]
        comings.left("ann", 10.0)
        settle(comings, 12.9)
        assert comings.lingers("ann") and not taken(comings, 12.9)
        assert not comings.anything(12.9) and comings.anything(13.0)
        settle(comings, 13.0)
        assert taken(comings, 13.0) == [("ann", False)] and not comings.lingers("ann")

    def test_a_return_within_the_grace_says_nothing(self) -> None:
        comings = Comings(GRACE)
        comings.left("ann", 10.0)
        comings.came("ann")
        settle(comings, 99.0)
        assert not taken(comings, 99.0)

    def test_a_return_before_anybody_was_told_says_nothing(self) -> None:
        comings = Comings(GRACE)
        comings.left("ann", 10.0)
        settle(comings, 13.0)
        assert len(comings) == 1 and comings.lingers("ann")
        comings.came("ann")
        assert not taken(comings, 13.0)

    def test_a_return_while_some_have_been_told_is_told(self) -> None:
        comings = Comings(GRACE)
        comings.left("ann", 10.0)
        settle(comings, 13.0)
        assert taken(comings, 13.0) == [("ann", False)]
        comings.again("ann", online=False)  # not all could be told
        assert not comings.lingers("ann")
        comings.came("ann")
        assert taken(comings, 13.1) == [("ann", True)]

    def test_leaving_told_twice_hides_no_return(self) -> None:
        """A node that died is told at least once: the second time when `offline` has been said already."""
        comings = Comings(GRACE)
        comings.left("ann", 0.0)
        settle(comings, 3.0)
        assert taken(comings, 3.0) == [("ann", False)]
        comings.left("ann", 4.0)
        comings.came("ann")
        assert taken(comings, 5.0) == [("ann", True)]

    def test_who_is_elsewhere_is_not_told_to_be_away(self) -> None:
        comings = Comings(GRACE)
        comings.left("ann", 0.0)
        settle(comings, 3.0, elsewhere=True)
        assert not taken(comings, 3.0) and not comings.lingers("ann")

    def test_an_answer_about_an_earlier_stay_is_void(self) -> None:
        comings = Comings(GRACE)
        comings.left("ann", 0.0)
        (due,) = comings.due(3.0)
        comings.came("ann")
        comings.left("ann", 3.5)
        comings.settle(*due, elsewhere=False)
        assert not taken(comings, 4.0)
        settle(comings, 6.5)
        assert taken(comings, 6.5) == [("ann", False)]

    def test_only_the_newest_of_each_user_waits(self) -> None:
        comings = Comings(0.0)
        for moment in range(100):
            comings.came("ann")
            comings.came("ben")
            comings.left("ann", float(moment))
            settle(comings, float(moment))
        assert taken(comings, 100.0) == [("ben", True), ("ann", False)]

    def test_what_has_to_be_told_again_gives_way_to_what_is_newer(self) -> None:
        comings = Comings(GRACE)
        comings.came("ann")
        comings.again("ann", online=False)
        assert taken(comings, 0.0) == [("ann", True)]

    def test_who_was_told_online_too_late_is_told_to_be_away(self) -> None:
        """Ann left with another node, which has said so, while our news of her waited for the store."""
        comings = Comings(GRACE)
        comings.came("ann")
        assert taken(comings, 60.0) == [("ann", True)]
        comings.look_again("ann", 60.0, online=True, there=False)
        settle(comings, 62.9)
        assert not taken(comings, 62.9)
        settle(comings, 63.0)
        assert taken(comings, 63.0) == [("ann", False)]

    def test_when_somebody_was_heard_is_known_for_a_while(self) -> None:
        comings = Comings(GRACE)
        comings.heard("ann", 0.0, 1_000)
        comings.heard("ben", 1.0, 1_001)
        comings.heard("ann", 2.0, 1_002)
        assert (comings.last_heard_ms("ann"), comings.last_heard_ms("cyd")) == (1_002, 0)
        comings.due(1.0 + GRACE + REMEMBERED)
        assert (comings.last_heard_ms("ann"), comings.last_heard_ms("ben")) == (1_002, 0)
        comings.came("ann")
        assert comings.last_heard_ms("ann") == 0

    def test_nothing_is_kept_of_users_long_gone(self) -> None:
        comings = Comings(GRACE)
        for number in range(1_000):
            comings.heard(f"u{number}", 0.0, 1)
            comings.left(f"u{number}", 0.0)
        settle(comings, 3.0)
        assert len(taken(comings, 3.0)) == 1_000
        comings.due(1_000.0)
        assert not (comings._heard or comings._said or comings._news or comings._lingering)


class World(RuleBasedStateMachine):
    """Two nodes, users that come and go on both, a friend who hears what is told, a telling that fails halfway."""

    @initialize()
    def begin(self) -> None:
        self.now = 0.0
        self.nodes = [Comings(GRACE), Comings(GRACE)]
        self.there: set[tuple[str, int]] = set()
        self.believes: dict[str, bool] = {}
        self.left: dict[tuple[str, int], float] = {}

    def present(self, user: str) -> bool:
        return any(one == user for one, _ in self.there)

    def tell(self, node: int, user: str, *, online: bool) -> None:
        assert online or self.now >= self.left[user, node] + GRACE, "it flickers"
        self.believes[user] = online

    @rule(user=st.sampled_from(["ann", "ben"]), node=st.sampled_from([0, 1]))
    def come(self, user: str, node: int) -> None:
        if (user, node) in self.there:
            return
        first = not self.present(user)
        self.there.add((user, node))
        if first:
            self.nodes[node].came(user)

    @rule(user=st.sampled_from(["ann", "ben"]), node=st.sampled_from([0, 1]))
    def leave(self, user: str, node: int) -> None:
        if (user, node) not in self.there:
            return
        self.there.discard((user, node))
        if not self.present(user):
            self.left[user, node] = self.now
            self.nodes[node].left(user, self.now)

    @rule(user=st.sampled_from(["ann", "ben"]), node=st.sampled_from([0, 1]))
    def told_twice(self, user: str, node: int) -> None:
        """That the user has left with a node that died, once more."""
        if not self.present(user) and (user, node) in self.left:
            self.nodes[node].left(user, self.now)

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.9, 3.0, 100.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(node=st.sampled_from([0, 1]), fails=st.booleans(), heard=st.booleans())
    def work(self, node: int, fails: bool, heard: bool) -> None:
        """As the worker does it. A telling that fails may have reached the friend."""
        comings = self.nodes[node]
        for user, since in comings.due(self.now):
            comings.settle(user, since, elsewhere=self.present(user))
        news = comings.take(self.now)
        if news is None:
            return
        user, online = news
        if not fails or heard:
            self.tell(node, user, online=online)
        if fails:
            comings.again(user, online=online)
        else:
            there = self.present(user)
            if online and not there:
                self.left[user, node] = self.now
            comings.look_again(user, self.now, online=online, there=there)

    @rule()
    def the_last_word_is_true(self) -> None:
        self.quiet()
        for user in ("ann", "ben"):
            assert self.believes.get(user, False) == self.present(user), user

    def quiet(self) -> None:
        self.now += GRACE
        for node in (0, 1, 0, 1):
            self.drain(node)
        self.now += GRACE  # for those who were told `online` too late
        for node in (0, 1):
            self.drain(node)

    def drain(self, node: int) -> None:
        while self.nodes[node].anything(self.now):
            self.work(node, fails=False, heard=True)


TestWorld = World.TestCase
TestWorld.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)


class TestReached:
    @pytest.mark.parametrize(
        ("filter", "names"),
        [
            ("inbox/me/#", None),
            ("inbox/me/presence/+", None),
            ("inbox/me/presence/#", None),
            ("inbox/me/+/+", None),
            ("#", None),
            ("inbox/me/presence/ann", {"ann"}),
            ("inbox/me/presence/ann/#", {"ann"}),
            ("inbox/me/+/ann", {"ann"}),
            ("inbox/me/chat/+", set()),
            ("inbox/me/presence", set()),
            ("inbox/me/presence/ann/x", set()),
            ("inbox/you/presence/ann", set()),
            ("devices/me/#", set()),
        ],
    )
    def test_one_filter(self, filter: str, names: set[str] | None) -> None:
        assert reached("me", [filter]) == names

    @settings(max_examples=200, deadline=None)
    @given(
        st.lists(
            st.lists(st.sampled_from(["inbox", "me", "presence", "ann", "ben", "+"]), min_size=1, max_size=5).map(
                "/".join
            ),
            max_size=4,
        )
    )
    def test_it_is_what_the_filters_match(self, filters: list[str]) -> None:
        names = reached("me", filters)
        for friend in ("ann", "ben", "cyd"):
            matched = any(matches(filter, f"inbox/me/presence/{friend}") for filter in filters)
            assert matched == (names is None or friend in names)


def test_the_payload() -> None:
    assert render_presence(online=True, last_seen=1_700_000_000_000) == b'{"online":true,"last_seen":1700000000000}'
    assert render_presence(online=False, last_seen=0) == b'{"online":false,"last_seen":0}'
