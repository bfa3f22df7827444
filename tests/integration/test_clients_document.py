"""The programs of docs/clients.md, taken from there, and the examples of the bot kit, run against a real server."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from aldis.mobile_client_demo.bot import Bot, DeviceMessage, Message
from tests.integration.bots import PATIENCE, bodies, collecting, how, until
from tests.servers import Aldis, running

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
EXAMPLES = "aldis.mobile_client_demo.bot.examples"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.+?)^```$", DOCUMENT, re.M | re.S)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aldis]:
    with running(tmp_path_factory.mktemp("server")) as server:
        server.register("alice", "bob", "echo")
        server.befriend("alice", "bob")
        server.befriend("alice", "echo")
        yield server


def here(program: str, server: Aldis) -> str:
    """As it stands in the document but for the addresses and the password."""
    api = "http://{}:{}".format(*server.http)
    program = program.replace('mqtt="127.0.0.1:1883", api="http://127.0.0.1:8000"', 'file="x"')
    program = program.replace(', file="echo.db", file="x"', ', file="echo.db"')
    addresses = f'mqtt="{server.mqtt[0]}:{server.mqtt[1]}", api="{api}"'
    return program.replace('password="correct horse"', f'password="correct horse battery", {addresses}')


@contextmanager
def started(words: list[str], folder: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-u", *words], cwd=folder, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env={**os.environ, **environment},
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_the_python_programs_work_as_they_stand(server: Aldis, tmp_path: Path) -> None:
    echo, talk, awaiting, _ = blocks("python")
    with started(["-c", here(echo, server)], tmp_path) as bot:
        for program, printed in ((talk, r"sent as \d+\nread\n"), (awaiting, r"answer: And now\?\n")):
            done = subprocess.run(
                [sys.executable, "-c", here(program, server)], cwd=tmp_path, capture_output=True, text=True, timeout=30,
                check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            assert re.fullmatch(printed, done.stdout), done.stdout
        bot.terminate()
        assert bot.wait(PATIENCE) == 0


def test_the_echo_and_the_alert_example(server: Aldis, tmp_path: Path) -> None:
    mqtt_at, api = "{}:{}".format(*server.mqtt), "http://{}:{}".format(*server.http)
    places = ["--mqtt", mqtt_at, "--api", api]
    secret = {"BOT_PASSWORD": "correct horse battery"}
    with (
        started(["-m", f"{EXAMPLES}.echo", "--user", "echo", "--device", "e", *places], tmp_path, **secret) as echo,
        Bot(**how(server, tmp_path, "alice", "reader")) as reader,
    ):
        got = collecting(reader)
        reader.send("echo", "one", encrypted=True).read.wait(PATIENCE)
        until(lambda: bodies(got) == ["one"])
        words = ["-m", f"{EXAMPLES}.alert", "--user", "echo", "--device", "log", "--to", "alice", *places]
        with started(words, tmp_path, **secret) as alert:
            alert.communicate("disk full\n\nfan stopped\n", timeout=PATIENCE)
            assert alert.returncode == 0
        until(lambda: bodies(got) == ["one", "disk full", "fan stopped"])
        assert got[1].type == "alert"
        echo.terminate()
        assert echo.wait(PATIENCE) == 0


def test_the_sensor_example_reports_obeys_and_has_a_will(server: Aldis, tmp_path: Path) -> None:
    token = server.rest(
        "POST", "/v1/tokens", {"device_id": "greenhouse", "name": "sensor"}, server.login("bob", "desk")
    )["token"]  # fmt: skip
    seen: list[DeviceMessage] = []
    words = ["-m", f"{EXAMPLES}.sensor", "--user", "bob", "--device", "greenhouse", "--interval", "0.3"]
    words += ["--mqtt", "{}:{}".format(*server.mqtt)]
    desk = Bot(**how(server, tmp_path, "bob", "desk"))
    desk.on_device("#")(seen.append)

    def values(topic: str) -> list[str]:
        return [one.payload.decode() for one in list(seen) if one.topic == topic]

    with desk, started(words, tmp_path, BOT_TOKEN=token) as sensor:
        until(lambda: len(values("temperature")) >= 2)
        assert values("status")[-1] == "online"
        assert all(10 < float(value) < 30 for value in values("temperature"))
        desk.report("command/interval", "0.2", retain=False)
        until(lambda: values("interval") == ["0.2"])
        sensor.kill()
        until(lambda: values("status")[-1] == "offline")


@pytest.mark.timeout(90)
def test_the_micropython_sketch_talks_remembers_and_comes_back(server: Aldis, tmp_path: Path) -> None:
    sketch = blocks("python")[-1]
    token = server.rest(
        "POST", "/v1/tokens", {"device_id": "esp32", "name": "esp"}, server.login("alice", "desk")
    )["token"]  # fmt: skip
    for written, meant in (
        ('"192.168.1.10", 1883', f'"{server.mqtt[0]}", {server.mqtt[1]}'),
        ("aldis_dt_...", token),
        (">= 30:", ">= 1:"),
    ):
        assert sketch.count(written) == 1
        sketch = sketch.replace(written, meant)
    got: list[Message] = []
    with Bot(**how(server, tmp_path, "bob", "phone")) as bob:
        bob.on_message(got.append, sender="alice")
        path = {"PYTHONPATH": str(ROOT / "tests" / "clients")}
        with started(["-c", sketch], tmp_path, **path):
            until(lambda: bodies(got).count("still here") >= 2)
            handle = bob.send("alice", "lamp on")
            assert handle.delivered.wait(PATIENCE)
            until(lambda: "got: lamp on" in bodies(got))
        n = int((tmp_path / "handled").read_text())
        waiting = bob.send("alice", "while you were away")
        assert waiting.sent.wait(PATIENCE)
        with started(["-c", sketch], tmp_path, **path):
            until(lambda: "got: while you were away" in bodies(got))
        assert int((tmp_path / "handled").read_text()) > n
        assert bodies(got).count("got: lamp on") == 1


def test_the_arduino_sketch_speaks_the_contract(server: Aldis) -> None:
    """No compiler for it here: its topics and formats are taken from it and sent as the library sends, at QoS 0."""
    (sketch,) = blocks("cpp")
    assert sketch.count("{") == sketch.count("}") and sketch.count("(") == sketch.count(")")
    form = json.loads(re.search(r'sizeof pending, (".+"), id, body', sketch)[1])  # type: ignore[index]
    filter = re.search(r'subscribe\("([^"]+)", 1\)', sketch)[1]  # type: ignore[index]
    topic = re.search(r'client\.publish\("([^"]+)", pending\)', sketch)[1]  # type: ignore[index]
    will = re.search(r'TOKEN, "([^"]+)", 1, true', sketch)[1]  # type: ignore[index]
    payload = form.replace("%s", "00000007-1", 1).replace("%s", "hello", 1)
    assert json.loads(payload) == {"id": "00000007-1", "body": "hello"}
    assert len(payload) < int(re.search(r"pending\[(\d+)\]", sketch)[1])  # type: ignore[index]
    heard: list[tuple[str, bytes]] = []
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="arduino")
    client.username_pw_set("alice", server.login("alice", "arduino"))
    client.will_set(will, "offline", qos=1, retain=True)
    client.on_connect = lambda *_: client.subscribe(filter, 1)
    client.on_subscribe = lambda *_: client.publish(topic, payload, qos=0)
    client.on_message = lambda _client, _data, packet: heard.append((packet.topic, packet.payload))
    client.connect(*server.mqtt)
    client.loop_start()
    deadline = time.monotonic() + PATIENCE
    while not any("/receipt/" in topic and b'"sent"' in said and b"00000007-1" in said for topic, said in heard):
        assert time.monotonic() < deadline, heard
        time.sleep(0.02)
    client.disconnect()
    client.loop_stop()
