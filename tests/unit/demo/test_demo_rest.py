"""REST calls against a real HTTP server with scripted answers: what is sent, and what each kind of failure becomes."""

import base64
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from aldis.mobile_client_demo.encryption import RelationKey
from aldis.mobile_client_demo.rest import Garbled, Login, Refused, Relation, Rest, Unreachable

LOGIN = Login("alice", "phone", "secret-access", "secret-refresh")
JSON = "application/json"
PROBLEM = "application/problem+json"
KEY = base64.b64encode(bytes(range(32))).decode()


@pytest.fixture
def server():
    """`answers` are given in turn, `asked` is what came: (method, path, authorization, body)."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            self.server.asked.append((self.command, self.path, self.headers.get("Authorization"), body))
            self.server.keys.append(self.headers.get("Idempotency-Key"))
            status, content_type, data, *more = self.server.answers.pop(0)
            self.send_response(status)
            for name, value in more[0].items() if more else ():
                self.send_header(name, value)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = answer

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.answers, server.keys = [], [], []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def rest(server):
    return Rest(f"http://127.0.0.1:{server.server_port}", timeout=5)


def answers(server, *documents):
    server.answers += [(200, JSON, json.dumps(document).encode()) for document in documents]


def test_calls_carry_what_the_contract_asks_for(server, rest):
    server.answers = [(201, JSON, b'{"user_id":"alice"}')]
    answers(server, {"access_token": "A", "refresh_token": "R", "expires_in": 60}, {}, {}, [])
    rest.register("alice", "password", "Alice")
    login = rest.login("alice", "password", "phone")
    rest.request_friend(login, "bob")
    rest.accept_friend(login, "b.o-b")
    rest.relations(login)
    assert login == Login("alice", "phone", "A", "R")
    assert server.asked == [
        ("POST", "/v1/users", None, {"user_id": "alice", "password": "password", "name": "Alice"}),
        ("POST", "/v1/login", None, {"user_id": "alice", "password": "password", "device_id": "phone"}),
        ("POST", "/v1/friend-requests", "Bearer A", {"to": "bob"}),
        ("POST", "/v1/friend-requests/b.o-b/accept", "Bearer A", None),
        ("GET", "/v1/relations", "Bearer A", None),
    ]


def test_relations_with_and_without_a_key(server, rest):
    answers(
        server,
        [
            {"user_id": "bob", "state": "friends", "key": {"version": 2, "alg": "A256GCM", "key": KEY}},
            {"user_id": "carol", "state": "blocked", "key": None},
        ],
    )
    assert rest.relations(LOGIN) == [
        Relation("bob", "friends", RelationKey(2, bytes(range(32)))),
        Relation("carol", "blocked", None),
    ]


def test_a_list_in_pages_is_read_to_its_end(server, rest):
    def page(*users, link=None):
        rows = json.dumps([{"user_id": user, "state": "friends", "key": None} for user in users]).encode()
        server.answers.append((200, JSON, rows, {} if link is None else {"link": link}))

    page("a", "b", link='</v1/relations?after=b&limit=2>; rel="next"')
    page("c", "d", link='</v1/relations?after=d&limit=2>; rel="next"')
    page("e", link='<http://elsewhere.example/v1/relations>; rel="next"')
    assert [relation.friend for relation in rest.relations(LOGIN)] == ["a", "b", "c", "d", "e"]
    asked = [path for _, path, authorization, _ in server.asked if authorization == "Bearer secret-access"]
    assert asked == ["/v1/relations", "/v1/relations?after=b&limit=2", "/v1/relations?after=d&limit=2"]


def test_a_refresh_that_is_asked_again_has_the_same_key(server, rest):
    pair = {"access_token": "A", "refresh_token": "R", "expires_in": 60}
    server.answers = [(502, "text/html", b"lost"), (200, JSON, json.dumps(pair).encode())]
    with pytest.raises(Refused):
        rest.refresh(LOGIN)
    fresh = rest.refresh(LOGIN)
    answers(server, pair)
    rest.refresh(fresh)
    first, again, next_one = server.keys
    assert first == again and len(first) >= 16 and next_one not in ("", first)
    assert LOGIN.refresh_key not in repr(LOGIN)


@pytest.mark.parametrize(
    ("answer", "problem", "words"),
    [
        (
            (401, PROBLEM, b'{"title":"Unauthorized","status":401,"detail":"wrong password"}'),
            True,
            "401 .*wrong password",
        ),
        ((409, f"{PROBLEM}; charset=utf-8", b'{"title":"Taken"}'), True, "409 Taken"),
        ((401, JSON, b'{"title":"Unauthorized"}'), False, "401 Unauthorized"),
        ((404, "text/html", b"<h1>nothing here</h1>"), False, "404 Not Found"),
        ((500, PROBLEM, b"not json"), False, "500"),
    ],
)
def test_a_refusal_names_the_call_and_says_if_it_was_a_proper_problem(server, rest, answer, problem, words):
    server.answers = [answer]
    with pytest.raises(Refused, match=f"POST /v1/login: {words}") as refusal:
        rest.login("alice", "x", "phone")
    assert (refusal.value.status, refusal.value.problem) == (answer[0], problem)


@pytest.mark.parametrize(
    ("status", "data"),
    [(200, b""), (200, b"{}"), (200, b"[]"), (200, b"<html>"), (200, b'{"access_token":5}'), (302, b"{}")],
)
def test_an_answer_of_another_shape_is_garbled(server, rest, status, data):
    server.answers = [(status, JSON, data)]
    with pytest.raises(Garbled):
        rest.login("alice", "x", "phone")


@pytest.mark.parametrize(
    "key",
    [
        "text",
        {"version": 1, "alg": "A256GCM"},
        {"version": "1", "alg": "A256GCM", "key": KEY},
        {"version": 1, "alg": "A128GCM", "key": KEY},
        {"version": 1, "alg": "A256GCM", "key": "not base64"},
        {"version": 1, "alg": "A256GCM", "key": base64.b64encode(bytes(16)).decode()},
    ],
)
def test_a_key_that_cannot_be_used_is_garbled(server, rest, key):
    answers(server, [{"user_id": "bob", "state": "friends", "key": key}])
    with pytest.raises(Garbled):
        rest.relations(LOGIN)


def test_relations_must_be_a_list(server, rest):
    answers(server, {"user_id": "bob"})
    with pytest.raises(Garbled, match="not a list"):
        rest.relations(LOGIN)


def test_alive_is_satisfied_by_any_http_answer(server, rest):
    server.answers = [(503, "text/plain", b"starting")]
    rest.alive()


def test_nobody_there_is_unreachable():
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        rest = Rest(f"http://127.0.0.1:{reserved.getsockname()[1]}", timeout=5)
        with pytest.raises(Unreachable, match="does not answer"):
            rest.alive()


def test_a_silent_server_is_unreachable_after_the_timeout():
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(Unreachable, match="timed out"):
        Rest(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.1).alive()


def test_a_server_of_another_protocol_is_garbled():
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer():
            connection, _ = other.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"\x20\x02\x00\x01")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(Garbled, match="not in HTTP"):
            Rest(f"http://127.0.0.1:{other.getsockname()[1]}", timeout=5).alive()
        thread.join()


def test_a_base_path_and_a_bare_host_are_understood(server):
    server.answers = [(200, JSON, b"{}")]
    Rest(f"127.0.0.1:{server.server_port}/chat/", timeout=5).alive()
    assert server.asked[0][1] == "/chat/healthz"


@pytest.mark.parametrize("url", ["", "ftp://x", "http://", "http://host:port"])
def test_what_is_no_http_address_is_refused_at_once(url):
    with pytest.raises(ValueError):
        Rest(url, timeout=5)


def test_tokens_stay_out_of_logs():
    assert "secret" not in repr(LOGIN)
