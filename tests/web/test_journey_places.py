"""The same page wherever it is served: with TLS, in plain text over a network, by a cluster behind its balancer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, expect

from tests.clusters import clustered
from tests.secure import Papers
from tests.servers import running
from tests.web.browsing import Device
from tests.web.chatting import Chatting, MakeDevice, friends

UNKNOWN_AUTHORITY = "An SSL certificate error occurred when fetching the script"
"""A browser that was told to bear with our certificate does so for the page, and not for its service worker."""


@contextmanager
def devices(browser: Browser, address: str, **how: bool) -> Iterator[MakeDevice]:
    """Makes devices for an address, and closes them before its server goes."""
    made: list[Device] = []

    def make(*, wide: bool = False) -> Device:
        made.append(Device(browser, address, wide=wide, **how))
        made[-1].watch.excuse(UNKNOWN_AUTHORITY)
        return made[-1]

    try:
        yield make
        assert [line for one in made for line in one.watch.wrong] == []
    finally:
        for one in made:
            one.close()


def talk(device: MakeDevice) -> tuple[Chatting, Chatting]:
    anna, bruno = friends(device)
    anna.say("is this on?")
    bruno.sees("is this on?")
    bruno.say("loud and clear")
    anna.sees("loud and clear")
    anna.tick("is this on?", "read")
    anna.attach({"name": "note.txt", "mimeType": "text/plain", "buffer": b"by the same way"})
    assert bruno.saved("note.txt") == b"by the same way"
    return anna, bruno


def test_with_tls(browser: Browser, tmp_path: Path) -> None:
    papers = Papers(tmp_path / "papers")
    with running(tmp_path / "server", settings=papers.settings("listeners.websocket", "http")) as server:
        server.authority = papers.ca
        address = f"https://localhost:{server.http[1]}"
        with devices(browser, address, ignore_https_errors=True) as device:
            anna, _ = talk(device)
            assert anna.page.evaluate("isSecureContext") is True


def test_a_phone_on_the_same_network_without_tls(browser: Browser, tmp_path: Path) -> None:
    """As with `aldis up --lan`: no WebCrypto, no service worker; it works all the same, and says what it is."""
    settings = {"listeners.websocket.bind": "0.0.0.0:0", "http.bind": "0.0.0.0:0"}
    with (
        running(tmp_path, settings=settings) as server,
        devices(browser, f"http://aldis.test:{server.http[1]}") as device,
    ):
        anna, bruno = talk(device)
        rights = "[isSecureContext, 'subtle' in crypto, 'serviceWorker' in navigator]"
        assert anna.page.evaluate(rights) == [False, False, False]
        expect(bruno.page.get_by_text("This connection is not private.").first).to_be_visible()
        assert anna.device.barriers() == []


def test_through_the_balancer_of_a_cluster(browser: Browser, tmp_path: Path) -> None:
    with clustered(tmp_path / "cluster", balancer=True) as cluster:
        assert cluster.balancer is not None
        address = "http://{}:{}".format(*cluster.accounts.http)
        with devices(browser, address) as device:
            anna, bruno = talk(device)
            with anna.device.watch.away(), bruno.device.watch.away():
                cluster.nodes[0].kill()
                anna.online()
                bruno.online()
                anna.say("one node is gone")
                bruno.sees("one node is gone")
                anna.tick("one node is gone", "read")
        cluster.nodes[0].start()
