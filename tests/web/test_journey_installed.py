"""The page as an app: kept by the browser, opened without a network, renewed by a newer server, telling when hidden."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Error, Page, expect

from scripts.processes import program
from tests.servers import Aldis
from tests.web.browsing import Device, eventually
from tests.web.chatting import Chatting, MakeDevice, friends, new_user

KEPT = """async () => {
    const found = {};
    for (const name of await caches.keys()) {
        const requests = await (await caches.open(name)).keys();
        found[name] = requests.map((one) => new URL(one.url).pathname);
    }
    return found;
}"""


def kept(page: Page) -> dict[str, list[str]]:
    """What lies in the browser's caches, by name."""
    return dict(page.evaluate(KEPT))


def kept_now(page: Page, otherwise: str) -> Iterable[str]:
    """The names, or that one while the page is just being loaded again."""
    try:
        return kept(page)
    except Error:
        return (otherwise,)


def worker_is_there(page: Page) -> None:
    page.evaluate("navigator.serviceWorker.ready.then(() => 1)")
    page.wait_for_function("() => navigator.serviceWorker.controller !== null")


def test_it_opens_without_a_network(device: MakeDevice) -> None:
    anna = Chatting(device(), new_user("anna")).register()
    worker_is_there(anna.page)
    with anna.device.watch.away():
        anna.device.cut()
        anna.page.reload()
        expect(anna.page.get_by_role("region", name="Conversations")).to_be_visible()
        expect(anna.page.locator(".banner[data-link]")).to_be_visible()
        anna.device.mend()
    anna.online()


def test_it_keeps_the_page_and_nothing_that_the_server_answers(device: MakeDevice) -> None:
    anna, bruno = friends(device, wide=(True, True))
    worker_is_there(anna.page)
    anna.page.reload()
    anna.inside()
    anna.open_chat("Bruno").say("hello")
    bruno.sees("hello")
    ((_, paths),) = kept(anna.page).items()
    assert "/" in paths and "/main.js" in paths and "/vendor/mqtt.esm.js" in paths
    assert [path for path in paths if path.startswith(("/v1", "/chat.json", "/docs", "/schema", "/readyz"))] == []


def test_everything_that_is_loaded_is_kept(device: MakeDevice) -> None:
    """Else the page would open without a network, and something would be missing in it."""
    anna, _ = friends(device, wide=(True, True))
    worker_is_there(anna.page)
    asked: list[str] = []
    anna.page.on("request", lambda request: asked.append(request.url))
    anna.page.reload()
    anna.inside()
    anna.open_chat("Bruno")
    ((_, paths),) = kept(anna.page).items()
    own = {url.removeprefix(anna.device.address).partition("?")[0] for url in asked if url.startswith("http")}
    unkept = {path for path in own - set(paths) if not path.startswith("/v1/")}
    assert unkept <= {"/chat.json", "/service-worker.js", "/shell.js"}


@pytest.fixture
def newer(tmp_path: Path) -> Iterator[Newer]:
    with Newer(tmp_path) as server:
        yield server


class Newer:
    """A server whose web files can be changed: the program on a path of its own, so that the real ones stay."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        room = Path(__file__).parents[2] / "mobile_client_demo"
        shutil.copytree(room / "web", folder / "web")
        self.program = folder / "up.py"
        self.program.write_text(
            "import sys\n"
            "from pathlib import Path\n"
            "from aldis.broker import compose_web\n"
            f"compose_web._folder = lambda: Path({str(folder / 'web')!r})\n"
            "from aldis.broker.cli import main\n"
            "sys.exit(main(sys.argv[1:]))\n"
        )
        self.ports: dict[str, int] = {"mqtt": 0, "ws": 0, "http": 0}

    def __enter__(self) -> Newer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def start(self) -> None:
        flags = [f"--{name}=127.0.0.1:{port}" for name, port in self.ports.items()]
        self.process = subprocess.Popen(
            [sys.executable, str(self.program), "up", "--data", str(self.folder / "data"), *flags],
            stdout=subprocess.PIPE, stderr=(self.folder / "log").open("ab"), text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        said = "".join(iter(self.process.stdout.readline, "ready\n"))
        for name, port in re.findall(r"(mqtt|ws|http)://127\.0\.0\.1:(\d+)", said):
            self.ports[name] = int(port)

    def restart(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        self.start()


def test_a_newer_server_takes_over_cleanly(browser: Browser, newer: Newer) -> None:
    """The page that is open goes on; opened again, it is the new one, whole, and the old files are gone."""
    device = Device(browser, f"http://127.0.0.1:{newer.ports['http']}", wide=True)
    try:
        anna = Chatting(device, "anna").register()
        worker_is_there(anna.page)
        (before,) = kept(anna.page)
        main = newer.folder / "web" / "main.js"
        main.write_text(main.read_text() + 'document.documentElement.dataset.newer = "yes";\n')
        with device.watch.away():
            newer.restart()
            # it finds the newer worker by itself, as soon as it is connected again, and takes it when nobody looks
            eventually(anna.page, lambda: before not in kept_now(anna.page, before), "the newer files are taken")
            with contextlib.suppress(Error):  # nor when it was just away
                anna.page.evaluate(HIDE)
            expect(anna.page.locator("html")).to_have_attribute("data-newer", "yes")
            anna.inside()
        (after,) = kept(anna.page)
        assert after != before
        assert device.watch.wrong == []
    finally:
        device.close()


def test_a_browser_would_install_it(browser: Browser, server: Aldis, tmp_path: Path) -> None:
    """In a window that is not private, where Chromium says whether it could."""
    context = browser.browser_type.launch_persistent_context(
        tmp_path / "profile", executable_path=program("chromium"), args=["--no-sandbox"], headless=True
    )
    try:
        page = context.new_page()
        page.goto("http://{}:{}/".format(*server.http))
        worker_is_there(page)
        session = context.new_cdp_session(page)
        assert session.send("Page.getInstallabilityErrors")["installabilityErrors"] == []
        manifest = session.send("Page.getAppManifest")
        assert manifest["errors"] == [] and manifest["url"].endswith("/manifest.webmanifest")
    finally:
        context.close()


# Told when hidden

HIDE = """() => {
    Object.defineProperty(document, "visibilityState", { configurable: true, get: () => "hidden" });
    Object.defineProperty(document, "hidden", { configurable: true, get: () => true });
    document.hasFocus = () => false;
    document.dispatchEvent(new Event("visibilitychange"));
}"""
SHOW = """() => {
    delete document.visibilityState; delete document.hidden; delete document.hasFocus;
    document.dispatchEvent(new Event("visibilitychange"));
}"""
TOLD = """async () => (await (await navigator.serviceWorker.ready).getNotifications())
    .map(({ title, body, data }) => ({ title, body, user: data.user }))"""


def allow_notifications(person: Chatting) -> None:
    """And loads the page again; its worker, which shows them, is there afterwards."""
    person.device.context.grant_permissions(["notifications"], origin=person.device.address)
    person.page.reload()
    person.inside()
    worker_is_there(person.page)


def told(page: Page) -> list[dict[str, Any]]:
    """The notifications that the system shows now."""
    return list(page.evaluate(TOLD))


def test_a_hidden_page_tells_and_does_not_read(device: MakeDevice, server: Aldis) -> None:
    anna, bruno = friends(device, wide=(True, True))
    allow_notifications(anna)
    anna.open_chat("Bruno")
    bruno.say("seen at once")
    bruno.tick("seen at once", "read")
    assert told(anna.page) == []
    anna.page.evaluate(HIDE)
    bruno.say("are you away?")
    eventually(anna.page, lambda: told(anna.page), "a notification")
    assert told(anna.page) == [{"title": "Bruno", "body": "are you away?", "user": bruno.user}]
    bruno.tick("are you away?", "delivered")
    anna.page.evaluate(SHOW)
    bruno.tick("are you away?", "read")


def test_a_muted_conversation_does_not_tell(device: MakeDevice) -> None:
    anna, bruno = friends(device, wide=(True, True))
    allow_notifications(anna)
    anna.open_chat("Bruno")
    anna.page.get_by_role("button", name="About this conversation").click()
    anna.page.get_by_role("switch", name="Mute").click()
    expect(anna.page.get_by_role("switch", name="Mute")).to_be_checked()
    anna.close_sheet()
    anna.page.evaluate(HIDE)
    bruno.say("psst")
    bruno.tick("psst", "delivered")
    anna.sees("psst")
    assert told(anna.page) == []


def test_a_click_on_a_notification_opens_the_conversation(device: MakeDevice) -> None:
    """As the worker does it: the window comes to the front and is told whom to open."""
    anna, bruno = friends(device, wide=(True, True))
    worker_is_there(anna.page)
    anna.page.keyboard.press("Escape")
    expect(anna.page.get_by_role("region", name="Conversation: Bruno")).to_have_count(0)
    (worker,) = anna.device.context.service_workers
    worker.evaluate(
        """(user) => {
            const click = new ExtendableEvent("notificationclick");
            Object.defineProperty(click, "notification", { value: { close() {}, data: { user } } });
            self.dispatchEvent(click);
        }""",
        bruno.user,
    )
    expect(anna.page.get_by_role("region", name="Conversation: Bruno")).to_be_visible()
