"""Retained messages of devices outlive the server: with the commands that everybody has, and with kill -9."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.people import Person, people
from tests.servers import running
from tests.wire import Will

PATIENCE = 15.0


def mosquitto(program: str, person: Person, *options: str) -> str:
    host, port = person.server.mqtt
    who = ["-u", person.user, "-P", person.token("command"), "-i", "command"]
    command = [program, "-h", host, "-p", str(port), "-V", "311", *who, *options]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_mosquitto_pub_restart_mosquitto_sub(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        ada, bob = people(server, "ada", "bob", friends=False)
        for topic, payload, qos in (("lamp", "on", "1"), ("lamp", "off", "0"), ("door/front", "shut", "2")):
            mosquitto("mosquitto_pub", ada, "-r", "-q", qos, "-t", f"devices/{ada.user}/{topic}", "-m", payload)
        mosquitto("mosquitto_pub", bob, "-r", "-t", f"devices/{bob.user}/lamp", "-m", "bob's")
        mosquitto("mosquitto_pub", ada, "-t", f"devices/{ada.user}/passing", "-m", "not retained")
        assert server.stop() == 0
        server.start()
        heard = mosquitto("mosquitto_sub", ada, "-q", "2", "-v", "-C", "2", "-W", "5", "-t", f"devices/{ada.user}/#")
        assert set(heard.splitlines()) == {f"devices/{ada.user}/lamp off", f"devices/{ada.user}/door/front shut"}

        mosquitto("mosquitto_pub", ada, "-r", "-n", "-t", f"devices/{ada.user}/lamp")
        assert server.stop() == 0
        server.start()
        heard = mosquitto(
            "mosquitto_sub", ada, "--retained-only", "-v", "-C", "1", "-W", "5", "-t", f"devices/{ada.user}/#"
        )
        assert heard.splitlines() == [f"devices/{ada.user}/door/front shut"]


def test_kill_9_costs_a_moment_at_most(tmp_path: Path) -> None:
    """What was retained half a second ago is there; the will of a device that the crash cut off is not, since nobody
    was left to publish it."""
    with running(tmp_path) as server:
        (ada,) = people(server, "ada", friends=False)
        topic = f"devices/{ada.user}/lamp"
        with ada.dial(will=Will(topic, b"offline", 1, True)) as device:
            for number in range(20):
                device.published(topic, b"%d" % number, qos=1, retain=True)
            time.sleep(0.5)
            server.kill()
        server.start()
        with ada.dial("laptop") as device:
            device.subscribed((topic, 0))
            found = device.take()
            assert (found.payload, found.retain) == (b"19", True)


def test_a_retained_will_survives_the_shutdown_of_the_server(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        (ada,) = people(server, "ada", friends=False)
        topic = f"devices/{ada.user}/state"
        with ada.dial(will=Will(topic, b"offline", 1, True)) as device:
            device.published(topic, b"online", qos=1, retain=True)
        eventually(lambda: "connection ended" in server.log)
        server.stop()
        server.start()
        with ada.dial("laptop") as device:
            device.subscribed((topic, 0))
            assert device.take().payload == b"offline"
