"""Stock MQTT clients, as anybody has them, behind one small face: paho, aiomqtt, mosquitto's commands, mqtt.js.

Nothing here knows the wire contract beyond `inbox/{me}/#`.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import queue
import subprocess
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from socket import SHUT_RDWR
from typing import Any

import aiomqtt
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.people import Person

CLIENTS = Path(__file__).parents[1] / "clients"
PATIENCE = 15.0


class Stock(ABC):
    """A client of one person, subscribed to the whole inbox. `received` is (topic, document), in order."""

    separate_sender = False
    """Publishes from a device of its own (`sender`), because the command that receives cannot publish."""

    def __init__(self, person: Person, *, qos: int, clean: bool, device: str = "phone") -> None:
        self.person = person
        self.user = person.user
        self.device = device
        self.qos = qos
        self.clean = clean
        self.received: list[tuple[str, dict[str, Any]]] = []
        self._news = threading.Condition()

    @abstractmethod
    def start(self) -> None:
        """Connects and subscribes; returns when subscribed."""

    @abstractmethod
    def publish(self, topic: str, payloads: list[str]) -> None:
        """Publishes them in order and returns when all are acknowledged."""

    @abstractmethod
    def stop(self) -> None:
        """DISCONNECT."""

    @abstractmethod
    def die(self) -> None:
        """Ends without a word."""

    def got(self, topic: str, payload: str | bytes) -> None:
        with self._news:
            self.received.append((topic, json.loads(payload)))
            self._news.notify_all()

    def say(self, to: Person, *documents: dict[str, Any]) -> None:
        self.publish(f"inbox/{to.user}/chat/{self.user}", [json.dumps(one) for one in documents])

    def documents(self, kind: str) -> list[dict[str, Any]]:
        return [document for topic, document in self.received if topic.split("/")[2] == kind]

    def until(self, condition: Callable[[], object]) -> None:
        with self._news:
            assert self._news.wait_for(condition, PATIENCE), self.received[-5:]


class Paho(Stock):
    transport = "tcp"

    def start(self) -> None:
        subscribed = threading.Event()
        client = paho.Client(
            CallbackAPIVersion.VERSION2, self.device, clean_session=self.clean, transport=self.transport
        )
        client.username_pw_set(self.user, self.person.token(self.device))
        client.on_connect = lambda *_: client.subscribe(f"inbox/{self.user}/#", self.qos)
        client.on_subscribe = lambda *_: subscribed.set()
        client.on_message = lambda _client, _data, message: self.got(message.topic, message.payload)
        server = self.person.server
        client.connect(*(server.ws if self.transport == "websockets" else server.mqtt))
        client.loop_start()
        assert subscribed.wait(PATIENCE)
        self._client = client

    def publish(self, topic: str, payloads: list[str]) -> None:
        sent = [self._client.publish(topic, payload, self.qos) for payload in payloads]
        for one in sent:
            one.wait_for_publish(PATIENCE)
            assert one.is_published()

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def die(self) -> None:
        self._client.loop_stop()
        socket = self._client.socket()
        if socket is not None:
            socket.close()


class PahoWebSocket(Paho):
    transport = "websockets"


class Aiomqtt(Stock):
    """aiomqtt in an event loop of its own, in a thread."""

    def start(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._subscribed = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._live()], daemon=True)
        self._thread.start()
        assert self._subscribed.wait(PATIENCE)

    async def _live(self) -> None:
        self._over = asyncio.Event()
        host, port = self.person.server.mqtt
        async with aiomqtt.Client(
            host,
            port,
            username=self.user,
            password=self.person.token(self.device),
            identifier=self.device,
            clean_session=self.clean,
        ) as client:
            self._client = client
            await client.subscribe(f"inbox/{self.user}/#", self.qos)
            self._subscribed.set()
            listening = asyncio.create_task(self._listen(client))
            await self._over.wait()
            listening.cancel()

    async def _listen(self, client: aiomqtt.Client) -> None:
        try:
            async for message in client.messages:
                self.got(str(message.topic), bytes(message.payload))
        except aiomqtt.MqttError:
            return  # the connection was cut: `die`

    def publish(self, topic: str, payloads: list[str]) -> None:
        async def all_of_them() -> None:
            await asyncio.gather(*(self._client.publish(topic, one, self.qos, timeout=PATIENCE) for one in payloads))

        asyncio.run_coroutine_threadsafe(all_of_them(), self._loop).result(2 * PATIENCE)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(PATIENCE)

    def die(self) -> None:
        socket = self._client._client.socket()
        if socket is not None:
            socket.shutdown(SHUT_RDWR)


class Mosquitto(Stock):
    """`mosquitto_sub` and `mosquitto_pub`."""

    separate_sender = True

    def _command(self, program: str, device: str, *options: str) -> list[str]:
        host, port = self.person.server.mqtt
        who = ["-u", self.user, "-P", self.person.token(device), "-i", device, "-q", str(self.qos)]
        return [program, "-h", host, "-p", str(port), "-V", "311", *who, *options]

    def start(self) -> None:
        options = ["-t", f"inbox/{self.user}/#", "-v", "-d"] + ([] if self.clean else ["-c"])
        self._process = subprocess.Popen(
            ["stdbuf", "-oL", *self._command("mosquitto_sub", self.device, *options)], stdout=subprocess.PIPE, text=True
        )
        subscribed = threading.Event()
        self._reader = threading.Thread(target=self._read, args=[self._process, subscribed], daemon=True)
        self._reader.start()
        assert subscribed.wait(PATIENCE)

    def _read(self, process: subprocess.Popen[str], subscribed: threading.Event) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(("Subscribed (", "Client ")):
                if "SUBACK" in line:
                    subscribed.set()
            else:
                self.got(*line.rstrip("\n").split(" ", 1))

    def publish(self, topic: str, payloads: list[str]) -> None:
        command = self._command("mosquitto_pub", "sender", "-t", topic, "-l")
        ended = subprocess.run(
            command, input="".join(f"{payload}\n" for payload in payloads), text=True, timeout=PATIENCE, check=False
        )
        assert ended.returncode == 0

    def stop(self) -> None:
        self._process.terminate()
        self._end()

    def die(self) -> None:
        self._process.kill()
        self._end()

    def _end(self) -> None:
        self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert self._process.stdout is not None
        self._process.stdout.close()


def installed() -> Path:
    """Where mqtt.js is, installed exactly as the lock file says: once, and again when the lock file has changed. Tests
    that run side by side wait for the one that installs."""
    with (CLIENTS / "package-lock.json").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = CLIENTS / "node_modules" / f".{hashlib.sha256(lock.read()).hexdigest()[:16]}"
        if not stamp.exists():
            npm = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            ended = subprocess.run(npm, cwd=CLIENTS, capture_output=True, text=True, timeout=50, check=False)
            assert ended.returncode == 0, ended.stderr
            stamp.touch()
    return CLIENTS / "chat.mjs"


class MqttJs(Stock):
    """mqtt.js over WebSocket, as in a browser."""

    def start(self) -> None:
        host, port = self.person.server.ws
        session = "clean" if self.clean else "persistent"
        who = [self.user, self.person.token(self.device), self.device]
        self._process = subprocess.Popen(
            ["node", str(installed()), f"ws://{host}:{port}/mqtt", *who, session, str(self.qos)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._said: queue.Queue[dict[str, Any]] = queue.Queue()
        self._reader = threading.Thread(target=self._read, args=[self._process], daemon=True)
        self._reader.start()
        (granted,) = self._next("ready")["ready"]
        assert granted["qos"] == self.qos

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            said = json.loads(line)
            if "topic" in said:
                self.got(said["topic"], said["payload"])
            else:
                self._said.put(said)

    def _next(self, key: str) -> dict[str, Any]:
        said = self._said.get(timeout=PATIENCE)
        assert key in said and not said.get("error"), said
        return said

    def publish(self, topic: str, payloads: list[str]) -> None:
        assert self._process.stdin is not None
        for payload in payloads:
            self._process.stdin.write(json.dumps({"topic": topic, "payload": payload, "qos": self.qos}) + "\n")
        self._process.stdin.flush()
        for _ in payloads:
            self._next("acknowledged")

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._end()

    def die(self) -> None:
        self._process.kill()
        self._end()

    def _end(self) -> None:
        self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
