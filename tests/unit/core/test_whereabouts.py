"""What a node knows of where users are: never wrong for longer than what it was told, whatever comes between."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from aldis.broker.core.whereabouts import NOWHERE, Question, Whereabouts

USERS = ["ann", "ben", "cem"]
NODES = ["b", "c"]


def test_an_answer_is_remembered() -> None:
    about = Whereabouts("a", 10)
    question = about.ask(["ann", "ben"])
    assert about.answered(question, {"ann": frozenset({"a", "b"})}) == {"ann": {"b"}, "ben": frozenset()}
    assert about.known == {"ann": {"b"}, "ben": frozenset()}
    assert about.known["ben"] is NOWHERE  # what the hot path asks for


def test_what_is_said_while_the_question_is_under_way_wins() -> None:
    about = Whereabouts("a", 10)
    question = about.ask(["ann"])
    about.attached("b", ["ann", "ben"])
    about.detached("c", ["ann"])
    assert about.answered(question, {"ann": frozenset({"c"})}) == {"ann": {"b"}}
    assert about.known == {"ann": {"b"}}


def test_an_answer_from_before_something_was_missed_is_used_but_not_remembered() -> None:
    about = Whereabouts("a", 10)
    question = about.ask(["ann"])
    about.missed()
    assert about.answered(question, {"ann": frozenset({"b"})}) == {"ann": {"b"}}
    assert about.known == {}


def test_the_memory_is_bounded() -> None:
    about = Whereabouts("a", 2)
    for user in USERS:
        about.answered(about.ask([user]), {})
    assert list(about.known) == ["ben", "cem"]


def test_an_unanswered_question_leaves_nothing_behind() -> None:
    about = Whereabouts("a", 10)
    about.unanswered(about.ask(["ann"]))
    about.attached("b", ["ann"])
    assert about.known == {}


def test_a_dead_node_holds_nobody() -> None:
    about = Whereabouts("a", 10)
    about.answered(about.ask(["ann", "ben"]), {"ann": frozenset({"b", "c"}), "ben": frozenset({"b"})})
    about.gone("b")
    assert about.known == {"ann": {"c"}, "ben": frozenset()}
    assert about.known["ben"] is NOWHERE


def test_what_was_committed_is_known_for_one_to_two_periods() -> None:
    about = Whereabouts("a", 10)
    assert about.recent("ann") == 0
    about.committed("ann", 3)
    about.next_period()
    assert about.recent("ann") == 3
    about.committed("ann", 4)
    assert about.recent("ann") == 4
    about.next_period()
    about.next_period()
    assert about.recent("ann") == 0


class Told(RuleBasedStateMachine):
    """The truth changes, and every change is said, perhaps late; questions are answered by the truth of any moment
    since they were asked. Whenever nothing is on its way, what is remembered is the truth."""

    @initialize()
    def begin(self) -> None:
        self.about = Whereabouts("a", 10)
        self.truth: dict[str, set[str]] = {user: set() for user in USERS}
        self.on_the_way: list[tuple[str, str, bool]] = []
        self.questions: list[tuple[Question, dict[str, frozenset[str]], int]] = []

    def say(self, up_to: int) -> None:
        for user, node, there in self.on_the_way[:up_to]:
            (self.about.attached if there else self.about.detached)(node, [user])
        del self.on_the_way[:up_to]
        self.questions = [(question, answer, left - up_to) for question, answer, left in self.questions]

    @rule(user=st.sampled_from(USERS), node=st.sampled_from(NODES))
    def move(self, user: str, node: str) -> None:
        there = node not in self.truth[user]
        (self.truth[user].add if there else self.truth[user].discard)(node)
        self.on_the_way.append((user, node, there))  # first the user status, then the parcel

    @rule(count=st.integers(1, 5))
    def hear(self, count: int) -> None:
        self.say(min(count, len(self.on_the_way)))

    @rule(users=st.lists(st.sampled_from(USERS), min_size=1, unique=True))
    def ask(self, users: list[str]) -> None:
        question = self.about.ask(users)
        self.questions.append((question, {user: frozenset(self.truth[user]) for user in users}, len(self.on_the_way)))

    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        if self.questions:
            question, answer, _ = self.questions.pop(data.draw(st.integers(0, len(self.questions) - 1)))
            self.about.answered(question, answer)

    @rule(user=st.sampled_from(USERS), node=st.sampled_from(NODES))
    def move_and_lose(self, user: str, node: str) -> None:
        """What was on its way is lost, and that is noticed."""
        there = node not in self.truth[user]
        (self.truth[user].add if there else self.truth[user].discard)(node)
        self.on_the_way.clear()
        self.about.missed()

    @invariant()
    def knows_the_truth_once_everything_was_said(self) -> None:
        if not self.on_the_way:
            for user, nodes in self.about.known.items():
                assert nodes == self.truth[user], user


Told.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestTold = Told.TestCase
