"""TLS as stock clients use it, for MQTT, WebSocket and REST; certificates that change; clients with certificates."""

from __future__ import annotations

import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import paho.mqtt.client as paho
import pytest
import yaml
from cryptography import x509
from paho.mqtt.enums import CallbackAPIVersion
from websockets.sync.client import connect as websocket_connect
from websockets.typing import Subprotocol

from aldis.broker.tls_dev import make_authority, make_client
from aldis.config.settings import PROFILES
from tests.people import Person
from tests.secure import Papers, TlsStream, secure
from tests.servers import Aldis, RestError, profile, running
from tests.wire import ACCEPTED, Client, Closed, TcpStream, connect, refused

CERTIFICATES = "aldis.plugins.certificate.CertificateAuthentication"
NOT_AUTHORISED = refused(5)
PATIENT = {
    "timeouts.connect": 1,
    "limits.failed_connects_per_minute_per_address": 0,
    "limits.failed_connects_per_minute_per_user": 0,
}
"""One second for a CONNECT; as many wrong ones as a test wants."""


def with_certificates(path: Path) -> Path:
    """The embedded profile, in which a certificate may speak for its user."""
    plugins = yaml.safe_load((PROFILES / "embedded.yaml").read_text())["plugins"]
    first, *others = plugins.items()
    return profile(path, "embedded", dict([first, (CERTIFICATES, {}), *others]))


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return Papers(tmp_path_factory.mktemp("papers"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, papers: Papers) -> Iterator[Aldis]:
    """Everything over TLS; MQTT over TCP asks for a client certificate and can do without."""
    folder = tmp_path_factory.mktemp("tls")
    settings = papers.settings("listeners.websocket", "http") | papers.settings(
        "listeners.default", client_ca_file=papers.ca, client_certificates="optional"
    )
    with running(folder, with_certificates(folder / "profile.yaml"), settings | PATIENT) as server:
        server.authority = papers.ca
        server.register("ann", "ben", "thing")
        server.befriend("ann", "ben")
        yield server


@pytest.fixture
def ann(server: Aldis) -> Person:
    return Person(server, "ann")


# Stock clients


def test_mosquitto_over_tls(server: Aldis, ann: Person, papers: Papers) -> None:
    host, port = server.mqtt
    common = ["-h", host, "-p", str(port), "--cafile", str(papers.ca), "-q", "1", "-u", "ann"]
    sub = ["mosquitto_sub", *common, "-P", ann.token("laptop"), "-i", "laptop", "-t", "devices/ann/x", "-C", "1"]
    with subprocess.Popen([*sub, "-W", "10"], stdout=subprocess.PIPE, text=True) as reader:
        time.sleep(0.5)
        pub = ["mosquitto_pub", *common, "-P", ann.token("phone"), "-i", "phone", "-t", "devices/ann/x"]
        subprocess.run([*pub, "-m", "over TLS"], check=True, timeout=10)
        assert reader.communicate(timeout=15)[0] == "over TLS\n"


@pytest.mark.parametrize("transport", ["tcp", "websockets"])
def test_paho_over_tls_and_over_wss(server: Aldis, papers: Papers, transport: str) -> None:
    """A chat message of 60,000 bytes comes back to its sender's other device; the PUBACK means committed."""
    ann, arrived = Person(server, "ann"), threading.Event()
    subscribed, found = threading.Event(), []
    client = paho.Client(CallbackAPIVersion.VERSION2, f"paho-{transport}", transport=transport)
    client.username_pw_set("ann", ann.token(f"paho-{transport}"))
    client.tls_set(ca_certs=str(papers.ca))
    client.on_connect = lambda *_: client.subscribe("devices/ann/#", 1)
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = lambda _client, _data, message: (found.append(message.payload), arrived.set())
    client.connect(*(server.ws if transport == "websockets" else server.mqtt))
    client.loop_start()
    try:
        assert subscribed.wait(10)
        payload = b"x" * 60_000
        client.publish("devices/ann/big", payload, 1).wait_for_publish(10)
        assert arrived.wait(10)
        assert found == [payload]
    finally:
        client.disconnect()
        client.loop_stop()


def test_rest_over_https(server: Aldis, papers: Papers) -> None:
    assert server.rest("GET", "/healthz") == {"status": "ok"}
    with pytest.raises(RestError, match=r"^401"):
        server.rest("GET", "/v1/devices")
    for _ in range(20):
        with (
            socket.create_connection(server.http) as plain,
            papers.context().wrap_socket(plain, server_hostname="localhost") as tls,
        ):
            tls.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert tls.recv(100).startswith(b"HTTP/1.1 200")


def test_many_one_after_the_other(server: Aldis, ann: Person, papers: Papers) -> None:
    """The ClientHello may be there before the server looks for it: none is lost."""
    context = papers.context()
    for _ in range(50):
        with secure(server.mqtt, context) as client:
            client.connected("phone", user="ann", password=ann.token("phone"))


# What is refused


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_versions_are_refused(server: Aldis, papers: Papers, version: ssl.TLSVersion) -> None:
    context = papers.context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        TlsStream(server.mqtt, context)


def test_only_ciphers_with_forward_secrecy(server: Aldis, papers: Papers) -> None:
    context = papers.context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    stream = TlsStream(server.mqtt, context)
    cipher = stream.tls.cipher()
    stream.close()
    assert cipher is not None and cipher[0].startswith("ECDHE-") and ("GCM" in cipher[0] or "CHACHA" in cipher[0])
    context.set_ciphers("ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES128-SHA:AES128-GCM-SHA256")
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        TlsStream(server.mqtt, context)


def test_a_plain_client_on_a_tls_port_is_closed_with_one_line(server: Aldis) -> None:
    for address in (server.mqtt, server.ws, server.http):
        since = len(server.log)
        with Client(address) as client:
            client.send(connect("plain"))
            assert client.closed() == []
            assert isinstance(client.stream, TcpStream)
            pattern = f"127.0.0.1:{client.stream.port}"
        time.sleep(0.1)
        (line,) = server.logged(pattern, since=since)
        assert "ended: TLS handshake failed" in line


@pytest.mark.alone
@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["nothing", "half a hello"])
def test_a_silent_peer_in_the_handshake_is_closed_in_time(server: Aldis, said: bytes) -> None:
    for address in (server.mqtt, server.ws, server.http):
        began = time.monotonic()
        with Client(address) as client:
            client.stream.send(said)
            assert client.closed() == []
            assert 0.9 <= time.monotonic() - began <= 1.8
            assert isinstance(client.stream, TcpStream)
            server.logged(f"no CONNECT in time.*127.0.0.1:{client.stream.port}")


@pytest.mark.alone
def test_the_time_for_connect_includes_the_handshake(server: Aldis, papers: Papers) -> None:
    began = time.monotonic()
    with secure(server.mqtt, papers.context()) as client:
        assert client.closed() == []
    assert 0.9 <= time.monotonic() - began <= 1.8


def test_handshakes_count_as_connections(tmp_path: Path, papers: Papers) -> None:
    settings = papers.settings("listeners.default") | {"listeners.default.max_connections": 3, "timeouts.connect": 5}
    with running(tmp_path, "lab", settings) as server:
        silent = [server.tcp() for _ in range(3)]
        with server.tcp() as late:
            assert late.closed(2) == []
            assert "too many connections" in server.end_of(late)
        silent[0].close()
        time.sleep(0.3)
        with secure(server.mqtt, papers.context()) as client:
            client.connected("in the place of one")
        for client in silent:
            client.close()


def test_a_slow_reader_over_tls_is_given_no_more_than_its_buffer(tmp_path: Path, papers: Papers) -> None:
    """TLS has buffers of its own: 40 MB for who does not read them stay outside, and it is closed after its time."""
    settings = papers.settings("listeners.default") | {
        "timeouts.slow_reader": 1,
        "timeouts.acknowledge": 1,
        "limits.max_write_buffer": 65_536,
    }
    with running(tmp_path, "lab", settings) as server:
        context = papers.context()
        with secure(server.mqtt, context) as reader, secure(server.mqtt, context) as sender:
            reader.connected("reader").subscribed(("t", 0))
            sender.connected("sender")
            sender.published("warm", bytes(60_000))
            before = server.memory()
            for number in range(700):
                sender.published("t", bytes(60_000), id=number + 1)
            assert server.memory() - before < 8_000_000
            server.logged("connection ended: client does not read.*device='reader'")
            sender.nothing()


# Certificates that change


def test_a_new_certificate_is_for_new_connections(server: Aldis, ann: Person, papers: Papers) -> None:
    """Without a signal, when the files change; MQTT, WebSocket and HTTP; and nobody is disconnected for it."""
    context = papers.context()
    with secure(server.mqtt, context) as old:
        old.connected("old", user="ann", password=ann.token("old"))
        since, serial = len(server.log), papers.renew()
        server.logged("certificate reloaded", 3, since=since)
        for address in (server.mqtt, server.ws, server.http):
            stream = TlsStream(address, context)
            assert stream.serial == serial
            stream.close()
        old.nothing()
        assert isinstance(old.stream, TlsStream) and old.stream.serial != serial


def test_a_bad_pair_keeps_the_old_one(server: Aldis, papers: Papers) -> None:
    good = TlsStream(server.mqtt, papers.context()).serial
    certificate, key = papers.certfile.read_bytes(), papers.keyfile.read_bytes()
    other = make_authority()
    for bad in ((certificate, other.key_pem()), (b"no certificate", key), (certificate[:200], key)):
        since = len(server.log)
        papers.put(*bad)
        time.sleep(0.6)
        lines = [line for line in server.log[since:].splitlines() if "certificate not reloaded" in line]
        assert lines and all("old one stays in use" in line for line in lines)
        assert len(lines) <= 6  # once, or twice where both files were seen to change one after the other; three places
        assert TlsStream(server.mqtt, papers.context()).serial == good
    since = len(server.log)
    papers.put(certificate, key)
    server.logged("certificate reloaded", 3, since=since)


def test_hangup_reloads_at_once(tmp_path: Path, papers: Papers) -> None:
    settings = papers.settings("listeners.default", reload_interval=1_000)
    with running(tmp_path, "lab", settings) as server, secure(server.mqtt, papers.context()) as old:
        old.connected("old")
        serial = papers.renew()
        time.sleep(0.5)
        assert TlsStream(server.mqtt, papers.context()).serial != serial
        server.process.send_signal(signal.SIGHUP)
        server.logged("certificate reloaded")
        assert TlsStream(server.mqtt, papers.context()).serial == serial
        old.nothing()


def test_a_certificate_that_has_expired_is_said(tmp_path: Path) -> None:
    old = Papers(tmp_path / "papers")
    old.renew(timedelta(minutes=-1))
    with running(tmp_path / "server", "lab", old.settings("listeners.default")) as server:
        server.logged("WARNING.*certificate loaded, but it has expired")


# Clients with certificates


def test_a_certificate_is_enough_to_be_its_user(server: Aldis, papers: Papers) -> None:
    context = papers.context(papers.client("thing"))
    with secure(server.mqtt, context) as client:
        client.connected("sensor", user="thing")
        client.published("devices/thing/t", b"21.5")
        client.subscribed(("devices/thing/#", 1))
    with secure(server.mqtt, context) as client:
        client.connected("nameless")  # the certificate gives the name
        client.subscribed(("devices/thing/#", 1))


def test_a_certificate_is_for_nobody_else(server: Aldis, ann: Person, papers: Papers) -> None:
    context = papers.context(papers.client("thing"))
    for options in (
        {"user": "ann"},
        {"user": "ann", "password": ann.token("phone")},  # a good password does not help
        {"user": "thing", "password": "wrong"},  # nor does a certificate help a bad password
        {"user": "Thing"},
    ):
        with secure(server.mqtt, context) as client:
            client.send(connect("phone", **options))
            assert client.closed() == [NOT_AUTHORISED], options


def test_certificate_and_password_together(server: Aldis, ann: Person, papers: Papers) -> None:
    with secure(server.mqtt, papers.context(papers.client("ann"))) as client:
        client.connected("phone", user="ann", password=ann.token("phone"))


@pytest.mark.parametrize("name", ["stranger", "ann/chat", "#", "ann ", "$server", "+"])
def test_a_certificate_of_nobody_here_is_refused(server: Aldis, papers: Papers, name: str) -> None:
    """No account, or a name that is no user id."""
    for user in (name, None):
        with secure(server.mqtt, papers.context(papers.client(name))) as client:
            client.send(connect("phone", user=user))
            assert client.closed() == [NOT_AUTHORISED]


def test_without_a_certificate_a_password_is_needed(server: Aldis, ann: Person, papers: Papers) -> None:
    with secure(server.mqtt, papers.context()) as client:
        client.connected("phone", user="ann", password=ann.token("phone"))
    for options in ({}, {"user": "ann"}, {"user": "thing"}):
        with secure(server.mqtt, papers.context()) as client:
            client.send(connect("phone", **options))
            assert client.closed() == [NOT_AUTHORISED]


def test_a_certificate_of_another_authority_is_refused_in_the_handshake(server: Aldis, papers: Papers) -> None:
    forged = papers.keep(make_client(make_authority(), "thing"))
    expired = papers.client("thing", lifetime=timedelta(minutes=-1))
    for pair in (forged, expired):
        since = len(server.log)
        with (
            pytest.raises((ssl.SSLError, ConnectionResetError, Closed)),
            secure(server.mqtt, papers.context(pair)) as client,
        ):
            client.connected("sensor", user="thing")
        server.logged("TLS handshake failed.*certificate verify failed", since=since)


def test_required_by_the_first_alternative_name_of_a_form(tmp_path: Path, papers: Papers) -> None:
    """On the lab profile, which has no accounts: the certificate alone decides. Over WebSocket too."""
    config = profile(tmp_path / "profile.yaml", "lab", {CERTIFICATES: {}})
    options = {
        "client_ca_file": papers.ca,
        "client_certificates": "required",
        "client_certificate_user": "uri:urn:example:user:*",
    }
    settings = papers.settings("listeners.default", "listeners.websocket", **options)
    names = [
        x509.DNSName("urn:example:user:eve"),
        x509.UniformResourceIdentifier("urn:other:user:eve"),
        x509.UniformResourceIdentifier("urn:example:user:sensor-7"),
    ]
    good = papers.context(papers.client("someone else", *names))
    with running(tmp_path / "server", config, settings) as server:
        with secure(server.mqtt, good) as client:
            client.connected("a", user="sensor-7")
        url = f"wss://{server.ws[0]}:{server.ws[1]}/mqtt"
        with websocket_connect(url, subprotocols=[Subprotocol("mqtt")], ssl=good) as websocket:
            websocket.send(connect("b", user="sensor-7"))
            assert websocket.recv(5) == ACCEPTED
        with secure(server.mqtt, papers.context(papers.client("sensor-7"))) as client:
            client.send(connect("c", user="sensor-7"))
            assert client.closed() == [NOT_AUTHORISED]
        with (
            pytest.raises((ssl.SSLError, ConnectionResetError, Closed)),
            secure(server.mqtt, papers.context()) as client,
        ):
            client.connected("d", user="sensor-7")
        server.logged("TLS handshake failed.*peer did not return a certificate")


# Starting


def test_a_wrong_certificate_is_refused_at_start(tmp_path: Path, papers: Papers) -> None:
    key = tmp_path / "other.key"
    key.write_bytes(make_authority().key_pem())
    key.chmod(0o600)
    with pytest.raises(AssertionError, match=r"listeners\.default\.tls\.keyfile: .* is not the key of the certificate"):
        Aldis(tmp_path / "server", "lab", papers.settings("listeners.default", keyfile=key)).start()


def test_one_certificate_for_everything_by_flag(tmp_path: Path, papers: Papers) -> None:
    class WithFlags(Aldis):
        @property
        def command(self) -> list[str]:
            return [*super().command, f"--tls-cert={papers.certfile}", f"--tls-key={papers.keyfile}"]

    server = WithFlags(tmp_path).start()
    try:
        server.authority = papers.ca
        assert server.rest("GET", "/healthz") == {"status": "ok"}
        for address in (server.mqtt, server.ws):
            TlsStream(address, papers.context()).close()
    finally:
        assert server.stop() == 0, server.log
