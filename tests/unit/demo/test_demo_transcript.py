"""The transcript: lanes, colours only on a terminal, plain signs where needed, long bursts counted."""

import io

import pytest

from aldis.mobile_client_demo.journal import (
    Arrived,
    Disconnected,
    Journal,
    Malformed,
    Published,
    ReadSaid,
    ReceiptArrived,
    Subscribed,
)
from aldis.mobile_client_demo.promises import Promise
from aldis.mobile_client_demo.transcript import LINES_PER_BURST, Transcript
from aldis.mobile_client_demo.wire import Item, Receipt

BOB = {"user": "bob", "device": "laptop"}
WIDTH = 100


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Latin(io.TextIOWrapper):
    def __init__(self):
        super().__init__(io.BytesIO(), encoding="latin-1")

    def getvalue(self):
        self.flush()
        return self.buffer.getvalue().decode("latin-1")


@pytest.fixture
def stage():
    def build(out):
        journal = Journal()
        transcript = Transcript(out, journal, width=WIDTH)
        for user in ("alice", "bob"):
            transcript.add_lane(user)
        return journal, transcript

    return build


def everything(journal):
    item = Item("chat", "alice", "bob", 4, 9, 1, {})
    word = Item("system", "$server", "bob", 6, 11, 1, {"type": "friend_request"})
    for event in (
        Subscribed(**BOB, resumed=True),
        Published(**BOB, to="alice", id="x", seq=1, text="hello", again=False),
        Arrived(**BOB, item=item, text="hi", repeated=False),
        Arrived(**BOB, item=item, text="hi", repeated=True),
        Arrived(**BOB, item=Item("sync", "bob", "alice", 5, 10, 1, {}, "phone"), text=None, repeated=False),
        Arrived(**BOB, item=word, text=None, repeated=False),
        ReadSaid(**BOB, peer="alice", up_to=9),
        ReceiptArrived(**BOB, receipt=Receipt("sent", "alice", id="x", mid=12)),
        ReceiptArrived(**BOB, receipt=Receipt("delivered", "alice", up_to=13)),
        ReceiptArrived(**BOB, receipt=Receipt("read", "alice", up_to=14)),
        ReceiptArrived(**BOB, receipt=Receipt("failed", "alice", id="y", reason="blocked")),
        Malformed(**BOB, problem="n is missing"),
        Disconnected(**BOB, because="the network vanished"),
    ):
        journal.record(event)


def test_every_event_is_a_line_in_the_lane_of_its_user(stage):
    out = io.StringIO()
    journal, _ = stage(out)
    everything(journal)
    lines = out.getvalue().splitlines()
    assert len(lines) == 13
    right = [line.partition("│")[2].strip() for line in lines]
    assert right == [
        "laptop online, session resumed",
        "laptop ▶ “hello”  seq 1",
        "laptop ◀ n 4  “hi”",
        "laptop ◀ n 4 again, dropped",
        "laptop ◀ n 5  copy of my phone: unreadable",
        "laptop ◀ n 6  server: friend_request",
        "laptop the app shows all up to 9",
        "laptop   ✓ sent  mid 12",
        "laptop   ✓✓ delivered up to 13",
        "laptop   ✓✓ read up to 14",
        "laptop   ✗ failed: blocked",
        "laptop ✗ n is missing",
        "laptop offline: the network vanished",
    ]


def test_the_left_lane_keeps_the_bar_in_its_column_also_for_wide_signs(stage):
    out = io.StringIO()
    _, transcript = stage(out)
    for text in ("short", "wide 💡💡", "x" * 200, "💡" * 100):
        transcript.line("alice", text)
    plain, wide, clipped, clipped_wide = out.getvalue().splitlines()
    assert plain.index("│") == wide.index("│") + 2 == clipped.index("│")
    assert clipped.rstrip(" │").endswith("x…") and clipped_wide.rstrip(" │").endswith("💡…")


def test_no_colours_outside_a_terminal(stage, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    plain, coloured = io.StringIO(), Terminal()
    for out in (plain, coloured):
        journal, transcript = stage(out)
        everything(journal)
        transcript.promises([Promise("it works", ""), Promise("it does not", "seen in red")])
    assert "\x1b" not in plain.getvalue()
    assert "\x1b[34m" in coloured.getvalue() and "\x1b[31mBROKEN" in coloured.getvalue()


def test_no_color_is_respected_on_a_terminal(stage, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    journal, _ = stage(out)
    everything(journal)
    assert "\x1b" not in out.getvalue()


def test_an_output_without_our_signs_gets_plain_ones(stage):
    out = Latin()
    journal, transcript = stage(out)
    transcript.scene(1, "First")
    everything(journal)
    transcript.line("alice", "“Grüße” 💡")
    transcript.promises([Promise("it works", "")])
    text = out.getvalue()
    assert text.isascii()
    assert 'laptop > "hello"  seq 1' in text and "vv delivered up to 13" in text


def test_a_long_burst_is_counted_instead_of_printed(stage):
    out = io.StringIO()
    journal, transcript = stage(out)
    for number in range(LINES_PER_BURST + 5):
        journal.record(ReceiptArrived(**BOB, receipt=Receipt("sent", "alice", id="x", mid=number + 1)))
    transcript.scene(2, "Next")
    text = out.getvalue()
    assert text.count("✓ sent") == LINES_PER_BURST
    assert "laptop … and 5 more sent" in text
    journal.record(ReceiptArrived(**BOB, receipt=Receipt("sent", "alice", id="x", mid=99)))
    assert "mid 99" in out.getvalue()


def test_the_final_list_says_ok_or_broken_and_the_sum(stage):
    out = io.StringIO()
    _, transcript = stage(out)
    transcript.promises([Promise("kept", ""), Promise("not kept", "mid 5 came before sent"), Promise("open")])
    text = out.getvalue()
    assert "  ok      kept\n" in text
    assert "  BROKEN  not kept\n          mid 5 came before sent\n" in text
    assert "  BROKEN  open\n" in text
    assert "2 of 3 promises broken" in text


def test_a_closed_pipe_ends_the_printing_and_not_the_run(stage):
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    journal, transcript = stage(Closed())
    everything(journal)
    transcript.promises([])
    assert len(journal.events()) == 13
