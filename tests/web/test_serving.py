"""The web chat as it comes over the wire, from a server as `aldis up` starts it."""

from __future__ import annotations

import gzip
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from aldis.accounts_api.web_files import TYPES, WebFilesError, read_web_files
from aldis.accounts_api.web_pages import MqttPlace, content_security_policy, takes_gzip
from aldis.broker.compose_web import _folder, web_chat
from aldis.config.settings import load
from tests.servers import Aldis, running

WEB = _folder()
FILES = sorted(path.relative_to(WEB).as_posix() for path in WEB.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aldis]:
    with running(tmp_path_factory.mktemp("served")) as server:
        yield server


@pytest.fixture
def http(served: Aldis) -> Iterator[httpx.Client]:
    with httpx.Client(base_url="http://{}:{}".format(*served.http), timeout=30) as client:
        yield client


def directives(answer: httpx.Response) -> dict[str, str]:
    policy = answer.headers["content-security-policy"]
    return {name: value for name, _, value in (one.partition(" ") for one in policy.split("; "))}


def test_every_file_is_served_as_it_is_and_as_what_it_is(http: httpx.Client) -> None:
    for name in FILES:
        answer = http.get("/" if name == "index.html" else f"/{name}")
        assert answer.status_code == 200, name
        assert answer.content == (WEB / name).read_bytes(), name
        wanted = TYPES[Path(name).suffix]
        assert answer.headers["content-type"].removesuffix("; charset=utf-8") == wanted, name
        assert ("charset" in answer.headers["content-type"]) == wanted.startswith("text/"), name
        assert answer.headers["cache-control"] == "no-cache"


def test_what_the_page_may_do(http: httpx.Client, served: Aldis) -> None:
    answer = http.get("/")
    host, port = served.ws
    assert directives(answer) == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "font-src": "'self'",
        "img-src": "'self' blob:",
        "media-src": "'self' blob:",
        "connect-src": f"'self' ws://{host}:{port}",
        "manifest-src": "'self'",
        "worker-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "aldis-worker aldis-engine",
    }
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    for headers, policy in (
        ({"Host": "192.168.1.7:8000"}, None),
        ({"Host": "chat.example.org", "X-Forwarded-Proto": "https"}, "same-origin"),
    ):
        assert http.get("/", headers=headers).headers.get("cross-origin-opener-policy") == policy
    assert "camera=()" in answer.headers["permissions-policy"]
    assert answer.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize(
    ("host", "source"),
    [
        ("chat.example.org", " ws://chat.example.org:{}"),
        ("chat.example.org:8000", " ws://chat.example.org:{}"),
        ("192.168.1.7:80", " ws://192.168.1.7:{}"),
        ("[::1]:8000", " ws://*:{}"),
        ("", ""),
        ("a,b", ""),
        ("*", ""),
        ("*.example.org", ""),
        ("'unsafe-inline'", ""),
        ("x" * 300, ""),
        ("chat.example.org:123456", ""),
    ],
)
def test_a_host_header_is_repeated_only_if_it_looks_like_one(
    http: httpx.Client, served: Aldis, host: str, source: str
) -> None:
    answer = http.get("/", headers={"Host": host})
    assert answer.status_code == 200
    assert directives(answer)["connect-src"] == "'self'" + source.format(served.ws[1])
    assert len(directives(answer)) == 14


@pytest.mark.parametrize("host", ["evil.example; script-src *", "a b", "<script>"])
def test_a_host_header_with_more_in_it_than_a_name_gets_nothing_of_it_back(http: httpx.Client, host: str) -> None:
    answer = http.get("/", headers={"Host": host})
    assert host not in answer.headers["content-security-policy"] and host not in answer.text
    assert (answer.status_code, answer.headers["content-security-policy"][:18]) in (
        (400, "default-src 'none'"),
        (200, "default-src 'none'"),
    )


def test_a_page_with_tls_may_reach_mqtt_with_tls_and_a_given_address_stands() -> None:
    here = MqttPlace(None, lambda: 8084)
    assert "connect-src 'self' wss://a.example:8084;" in content_security_policy("a.example", "https", here)
    given = MqttPlace("wss://mqtt.example:444/mqtt", lambda: 8084)
    assert "connect-src 'self' wss://mqtt.example:444;" in content_security_policy("a.example", "http", given)
    nowhere = MqttPlace(None, lambda: None)
    assert "connect-src 'self';" in content_security_policy("a.example", "http", nowhere)


def test_chat_json_says_where_mqtt_is(http: httpx.Client, served: Aldis) -> None:
    answer = http.get("/chat.json")
    assert answer.json() == {"mqtt": None, "mqtt_port": served.ws[1], "mqtt_path": "/", "version": "0.1.0"}
    assert answer.headers["cache-control"] == "no-store"


def test_where_mqtt_is_can_be_said_before_it_is_there() -> None:
    """HTTP is open a moment earlier; a page that was told of no port then could not reach MQTT later either."""
    settings = load("embedded")
    chat = next(one for one in web_chat(settings, dict) if "/chat.json" in one.paths)  # type: ignore[union-attr]
    assert chat.fn()["mqtt_port"] == 8083  # type: ignore[union-attr]
    chosen = web_chat(settings, lambda: {"websocket": ("127.0.0.1", 4_711)})
    chat = next(one for one in chosen if "/chat.json" in one.paths)  # type: ignore[union-attr]
    assert chat.fn()["mqtt_port"] == 4_711  # type: ignore[union-attr]


def test_what_a_browser_has_is_not_sent_again(http: httpx.Client) -> None:
    for path in ("/", "/main.js", "/icons/aldis-192.png", "/shell.js"):
        first = http.get(path)
        again = http.get(path, headers={"If-None-Match": f'"other", W/{first.headers["etag"]}'})
        assert (again.status_code, again.content) == (304, b""), path
        assert again.headers["etag"] == first.headers["etag"]
        assert again.headers["content-security-policy"] == first.headers["content-security-policy"]
        assert http.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


def test_text_comes_packed_where_the_browser_takes_it(http: httpx.Client) -> None:
    plain = http.get("/vendor/mqtt.esm.js", headers={"Accept-Encoding": "identity"})
    packed = http.get("/vendor/mqtt.esm.js", headers={"Accept-Encoding": "gzip, deflate, br"})
    assert "content-encoding" not in plain.headers and packed.headers["content-encoding"] == "gzip"
    assert packed.content == plain.content
    assert int(packed.headers["content-length"]) < 0.4 * int(plain.headers["content-length"])
    assert plain.headers["etag"] != packed.headers["etag"]
    assert plain.headers["vary"] == packed.headers["vary"] == "Accept-Encoding"
    picture = http.get("/icons/aldis-512.png", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in picture.headers


def test_how_gzip_is_asked_for() -> None:
    assert takes_gzip(["gzip"]) and takes_gzip(["br;q=1, GZIP;q=0.5"]) and takes_gzip(["br", "gzip"])
    assert not takes_gzip([]) and not takes_gzip(["br"]) and not takes_gzip(["gzip;q=0, br"])
    assert not takes_gzip(["gzip; q=0.000"])


def test_head_says_the_same_without_the_file(http: httpx.Client) -> None:
    for path in ("/", "/main.js", "/manifest.webmanifest"):
        head, full = http.head(path), http.get(path)
        assert (head.status_code, head.content) == (200, b"")
        for name in ("content-type", "content-length", "etag", "content-security-policy"):
            assert head.headers[name] == full.headers[name], (path, name)


def raw(server: Aldis, target: str) -> tuple[int, str]:
    """Status and type, for paths that a client would clean up before it asks."""
    with socket.create_connection(server.http, timeout=20) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65_536), b"")).decode(errors="replace")
    kind = re.search(r"^content-type: (\S+)", answer, re.M | re.I)
    return int(answer.split(" ", 2)[1]), kind[1] if kind else ""


@pytest.mark.parametrize(
    "target",
    [
        "/nothing",
        "/index.htm",
        "/ui/",
        "/vendor",
        "/../pyproject.toml",
        "/../client.py",
        "/ui/../../client.py",
        "/%2e%2e/client.py",
        "/..%2fclient.py",
        "/ui/%2e%2e%2f%2e%2e%2fclient.py",
        "/%00",
        "/main.js%00.html",
        "//etc/passwd",
        "/v1/nothing",
    ],
)
def test_there_is_nothing_else(served: Aldis, target: str) -> None:
    status, kind = raw(served, target)
    assert (status, kind) == (404, "application/problem+json")


def test_a_file_takes_no_other_method(http: httpx.Client) -> None:
    answer = http.post("/")
    assert (answer.status_code, answer.headers["content-type"]) == (405, "application/problem+json")
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS"


def test_the_pages_are_no_part_of_the_described_interface(http: httpx.Client) -> None:
    paths = http.get("/schema/openapi.json").json()["paths"]
    assert all(path.startswith(("/v1/", "/healthz", "/readyz")) for path in paths)


def test_the_worker_is_told_every_file_and_a_version_that_changes_with_any(served: Aldis, http: httpx.Client) -> None:
    told = http.get("/shell.js").text
    kept = set(re.findall(r'"(/[^"]*)"', told))
    wanted = {"/" if name == "index.html" else f"/{name}" for name in FILES}
    assert kept <= wanted and {"/", "/main.js", "/vendor/mqtt.esm.js"} <= kept
    assert all(Path(path).suffix in ("", ".md", ".txt") for path in wanted - kept)
    assert http.get("/shell.js").text == told
    # the policy is kept with the files, so another one is another version
    assert http.get("/shell.js", headers={"Host": "other.example"}).text != told


def test_a_folder_that_is_no_web_chat_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WebFilesError, match=r"index\.html is missing"):
        read_web_files(tmp_path)
    (tmp_path / "index.html").write_text("<!doctype html>")
    (tmp_path / ".hidden").write_text("")
    (tmp_path / "link.js").symlink_to("/etc/hostname")
    assert list(read_web_files(tmp_path)) == ["/"]
    (tmp_path / "tool.exe").write_bytes(b"MZ")
    with pytest.raises(WebFilesError, match=r"tool\.exe"):
        read_web_files(tmp_path)


def test_files_are_packed_once_and_always_the_same(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<p>" + "hello " * 500)
    one, two = read_web_files(tmp_path)["/"], read_web_files(tmp_path)["/"]
    assert one == two and one.packed is not None and gzip.decompress(one.packed) == one.content


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    with running(tmp_path, settings={"web.enabled": "false"}) as server:
        assert raw(server, "/")[0] == 404
        assert raw(server, "/chat.json")[0] == 404
        assert raw(server, "/readyz")[0] == 200


def test_the_address_of_the_page_is_printed(served: Aldis) -> None:
    said = (served.folder / "out").read_text()
    assert re.search(rf"^web chat +http://127\.0\.0\.1:{served.http[1]}/$", said, re.M)
