"""The normative statements of MQTT 3.1.1, in our own short words, and who can be seen to keep or break each.

`SERVER`: seen at the server from outside, so a test must be there. `CLIENT`: an obligation of clients only. `WITHIN`:
kept or not where no packet shows it, or left to the implementation; the note says what Aldis does."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import NamedTuple

SERVER, CLIENT, WITHIN = "server", "client", "within"

TESTS = Path(__file__).parent.parent
ROOT = TESTS.parent
PLACES = [TESTS / "conformance", TESTS / "hostile", TESTS / "unit" / "core", TESTS / "unit" / "broker"]


class Statement(NamedTuple):
    id: str
    who: str
    words: str


def _statements(chapter: str, *rows: tuple[int, str, str]) -> list[Statement]:
    return [Statement(f"{chapter}-{number}", who, words) for number, who, words in rows]


STATEMENTS = [
    *_statements(
        "1.5.3",
        (1, SERVER, "a string that is not well-formed UTF-8, or holds a surrogate, closes the connection"),
        (2, SERVER, "a string that holds U+0000 closes the connection"),
        (3, SERVER, "U+FEFF is a character like any other, never skipped"),
    ),
    *_statements(
        "2.2.2",
        (1, SERVER, "reserved flag bits have their given values in what is sent"),
        (2, SERVER, "invalid flags close the connection"),
    ),
    *_statements(
        "2.3.1",
        (1, SERVER, "SUBSCRIBE, UNSUBSCRIBE and PUBLISH above QoS 0 carry a packet id that is not 0"),
        (2, CLIENT, "a new packet takes an id that is not in use"),
        (3, CLIENT, "a packet sent again keeps its id"),
        (4, SERVER, "the same holds for what the server publishes"),
        (5, SERVER, "a PUBLISH at QoS 0 has no packet id"),
        (6, SERVER, "PUBACK, PUBREC, PUBREL carry the id of their PUBLISH"),
        (7, SERVER, "SUBACK and UNSUBACK carry the id of what they answer"),
    ),
    *_statements(
        "3.1.0",
        (1, SERVER, "the first packet must be CONNECT"),
        (2, SERVER, "a second CONNECT closes the connection"),
    ),
    *_statements(
        "3.1.2",
        (1, SERVER, "an unknown protocol name: the connection is closed"),
        (2, SERVER, "an unsupported protocol level is answered with return code 1, then closed"),
        (3, SERVER, "the reserved CONNECT flag must be 0"),
        (4, SERVER, "clean session 0 resumes the stored session, or begins one that is kept"),
        (5, SERVER, "messages at QoS 1 and 2 for a kept session are stored while it is away"),
        (6, SERVER, "clean session 1 discards the earlier session"),
        (7, SERVER, "retained messages are no part of a session and outlive it"),
        (8, SERVER, "the will is published when the connection ends without DISCONNECT"),
        (9, SERVER, "with the will flag, will topic and message are in the payload and are used"),
        (10, SERVER, "the will is gone once published or once DISCONNECT came"),
        (11, SERVER, "without the will flag, will QoS and will retain are 0 and no will is in the payload"),
        (12, SERVER, "without the will flag no will is published"),
        (13, SERVER, "without the will flag, will QoS is 0"),
        (14, SERVER, "will QoS is never 3"),
        (15, SERVER, "without the will flag, will retain is 0"),
        (16, SERVER, "a will without retain is published as not retained"),
        (17, SERVER, "a will with retain is published as retained"),
        (18, SERVER, "without its flag there is no user name in the payload"),
        (19, SERVER, "with its flag there is a user name in the payload"),
        (20, SERVER, "without its flag there is no password in the payload"),
        (21, SERVER, "with its flag there is a password in the payload"),
        (22, SERVER, "without a user name there is no password"),
        (23, CLIENT, "the client sends something within each keep alive"),
        (24, SERVER, "silence for one and a half times the keep alive closes the connection"),
    ),
    *_statements(
        "3.1.3",
        (1, SERVER, "the fields of the payload come in their order"),
        (2, SERVER, "the client identifier names the session state"),
        (3, SERVER, "the client identifier is there, as the first field"),
        (4, SERVER, "the client identifier is a UTF-8 string"),
        (5, SERVER, "client identifiers of 1 to 23 letters and digits are allowed"),
        (6, SERVER, "an empty client identifier may be allowed, and is then a unique one"),
        (7, CLIENT, "an empty client identifier goes with clean session 1"),
        (8, SERVER, "an empty one without clean session is answered with return code 2"),
        (9, SERVER, "a client identifier that is refused is answered with return code 2"),
        (10, SERVER, "the will topic is a UTF-8 string"),
        (11, SERVER, "the user name is a UTF-8 string"),
    ),
    *_statements(
        "3.1.4",
        (1, SERVER, "a CONNECT that is not as specified is closed without a CONNACK"),
        (2, SERVER, "a new connection of a client that is connected ends the old one"),
        (3, SERVER, "clean session is processed as specified"),
        (4, SERVER, "an accepted CONNECT is answered with return code 0"),
        (5, SERVER, "after a refused CONNECT nothing of the client is processed"),
    ),
    *_statements("3.2.0", (1, SERVER, "the first packet from the server is CONNACK")),
    *_statements(
        "3.2.2",
        (1, SERVER, "clean session 1 is answered without session present"),
        (2, SERVER, "clean session 0 with a stored session is answered with session present"),
        (3, SERVER, "clean session 0 without a stored session is answered without session present"),
        (4, SERVER, "a return code other than 0 comes without session present"),
        (5, SERVER, "after a return code other than 0 the connection is closed"),
        (6, SERVER, "where no return code fits, the connection is closed without CONNACK"),
    ),
    *_statements(
        "3.3.1",
        (1, SERVER, "DUP is set when a PUBLISH is sent again"),
        (2, SERVER, "DUP is 0 at QoS 0"),
        (3, SERVER, "DUP of what goes out does not depend on DUP of what came in"),
        (4, SERVER, "both QoS bits set closes the connection"),
        (5, SERVER, "with RETAIN the message and its QoS are stored for later subscribers"),
        (6, SERVER, "a new subscription gets the last retained message of each matching topic"),
        (7, SERVER, "a retained QoS 0 message replaces the earlier retained one"),
        (8, SERVER, "RETAIN is 1 on what a new subscription gets"),
        (9, SERVER, "RETAIN is 0 on what an established subscription gets"),
        (10, SERVER, "a retained empty payload removes the retained message"),
        (11, SERVER, "a retained empty payload is not itself retained"),
        (12, SERVER, "without RETAIN nothing retained is stored, removed or replaced"),
    ),
    *_statements(
        "3.3.2",
        (1, SERVER, "the topic name is the first field, a UTF-8 string"),
        (2, SERVER, "a topic name has no wildcards"),
        (3, SERVER, "the topic of what is delivered matches the subscription"),
    ),
    *_statements("3.3.4", (1, SERVER, "a PUBLISH is answered as its QoS asks")),
    *_statements(
        "3.3.5",
        (1, SERVER, "overlapping subscriptions deliver with the highest QoS of those that match"),
        (2, SERVER, "a PUBLISH without authorisation is acknowledged as usual, or closes the connection"),
    ),
    *_statements("3.6.1", (1, SERVER, "the reserved bits of PUBREL are 0010")),
    *_statements("3.8.1", (1, SERVER, "the reserved bits of SUBSCRIBE are 0010")),
    *_statements(
        "3.8.3",
        (1, SERVER, "topic filters are UTF-8 strings"),
        (2, WITHIN, "a server without wildcards refuses them: Aldis has wildcards"),
        (3, SERVER, "SUBSCRIBE has at least one filter"),
        (4, SERVER, "the reserved bits of the requested QoS are 0, and it is not 3"),
    ),
    *_statements(
        "3.8.4",
        (1, SERVER, "SUBSCRIBE is answered with SUBACK"),
        (2, SERVER, "SUBACK has the packet id of its SUBSCRIBE"),
        (3, SERVER, "the same filter again replaces the subscription and sends what is retained again"),
        (4, SERVER, "several filters in one packet are as several packets, answered once"),
        (5, SERVER, "SUBACK has a return code for each filter"),
        (6, SERVER, "delivery at the lower of the QoS published and the QoS granted"),
    ),
    *_statements(
        "3.9.3",
        (1, SERVER, "return codes in SUBACK come in the order of the filters"),
        (2, SERVER, "return codes other than 0, 1, 2, 0x80 are not used"),
    ),
    *_statements("3.10.1", (1, SERVER, "the reserved bits of UNSUBSCRIBE are 0010")),
    *_statements(
        "3.10.3",
        (1, SERVER, "topic filters are UTF-8 strings"),
        (2, SERVER, "UNSUBSCRIBE has at least one filter"),
    ),
    *_statements(
        "3.10.4",
        (1, SERVER, "filters are compared character by character; an equal one is deleted"),
        (2, SERVER, "no new messages are added for a deleted subscription"),
        (3, SERVER, "what is under way at QoS 1 or 2 is completed"),
        (4, SERVER, "UNSUBSCRIBE is answered with UNSUBACK of the same packet id"),
        (5, SERVER, "also when nothing was subscribed"),
        (6, SERVER, "several filters in one packet are as several packets, answered once"),
    ),
    *_statements("3.12.4", (1, SERVER, "PINGREQ is answered with PINGRESP")),
    *_statements("3.14.1", (1, SERVER, "the reserved bits of DISCONNECT are 0")),
    *_statements(
        "3.14.4",
        (1, CLIENT, "after DISCONNECT the client closes the connection"),
        (2, CLIENT, "after DISCONNECT the client sends nothing more"),
        (3, SERVER, "on DISCONNECT the will is discarded"),
    ),
    *_statements(
        "4.1.0",
        (1, SERVER, "session state is kept for the whole session"),
        (2, SERVER, "a session lasts at least as long as its connection"),
    ),
    *_statements("4.2.0", (1, WITHIN, "the transport is an ordered, lossless stream: TCP and WebSocket are")),
    *_statements("4.3.1", (1, SERVER, "QoS 0: sent once, with DUP 0")),
    *_statements(
        "4.3.2",
        (1, SERVER, "QoS 1, sending: a fresh packet id, kept until its PUBACK"),
        (2, SERVER, "QoS 1, receiving: PUBACK with the id; afterwards the id means a new message"),
    ),
    *_statements(
        "4.3.3",
        (1, SERVER, "QoS 2, sending: PUBLISH until PUBREC, PUBREL until PUBCOMP, no PUBLISH after PUBREL"),
        (2, SERVER, "QoS 2, receiving: PUBREC; repeats until PUBREL are not passed on; PUBCOMP"),
    ),
    *_statements("4.4.0", (1, SERVER, "a resumed session gets what is unacknowledged again, with its packet ids")),
    *_statements(
        "4.5.0",
        (1, SERVER, "what the server has taken is added to the state of the sessions that subscribe to it"),
        (2, CLIENT, "the client acknowledges what it gets, whatever it does with it"),
    ),
    *_statements(
        "4.6.0",
        (1, SERVER, "PUBLISHes are sent again in the order in which they were first sent"),
        (2, SERVER, "PUBACKs leave in the order of their PUBLISHes"),
        (3, SERVER, "PUBRECs leave in the order of their PUBLISHes"),
        (4, SERVER, "PUBRELs leave in the order of their PUBRECs"),
        (5, SERVER, "topics are ordered"),
        (6, SERVER, "messages of one client to one topic and QoS arrive in the order in which they were sent"),
    ),
    *_statements(
        "4.7.1",
        (1, SERVER, "wildcards stand in filters only"),
        (2, SERVER, "# stands alone or after a separator, and last"),
        (3, SERVER, "+ is a whole level"),
    ),
    *_statements("4.7.2", (1, SERVER, "a filter that begins with a wildcard does not match topics that begin with $")),
    *_statements(
        "4.7.3",
        (1, SERVER, "topics and filters have at least one character"),
        (2, SERVER, "topics and filters have no U+0000"),
        (3, SERVER, "topics and filters have at most 65,535 bytes"),
        (4, SERVER, "topics are compared as they are, without normalisation"),
    ),
    *_statements(
        "4.8.0",
        (1, SERVER, "a violation of the protocol closes the connection"),
        (2, WITHIN, "a passing error while handling a packet closes the connection: `Node.failed`, a defect of ours"),
    ),
    *_statements(
        "6.0.0",
        (1, SERVER, "over WebSocket, anything but binary frames closes the connection"),
        (2, SERVER, "packets need not be aligned with frames"),
        (3, SERVER, "the client offers the subprotocol mqtt"),
        (4, SERVER, "the server chooses the subprotocol mqtt"),
    ),
]

_NAME = re.compile(r"^test_mqtt_(\d+)_(\d+)_(\d+)((?:_\d+)+)(?:_|$)")
_QUOTED = re.compile(r"\[MQTT-(\d+\.\d+\.\d+-\d+)\]")
_CASE = re.compile(r"^(\d+\.\d+\.\d+-\d+) ")


def held_by() -> dict[str, list[str]]:
    """Statement id to the tests that are named for it or quote it, as `file::test`."""
    found: dict[str, list[str]] = {}
    for place in PLACES:
        for path in sorted(place.rglob("test_*.py")):
            text = path.read_text(encoding="utf-8")
            module = ast.parse(text)
            cases = _cases(module)
            for node in ast.walk(module):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                    where = f"{path.relative_to(ROOT).as_posix()}::{node.name}"
                    used = {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
                    for id in _named(node, text).union(*(cases[name] for name in used & cases.keys())):
                        found.setdefault(id, []).append(where)
    return found


def _cases(module: ast.Module) -> dict[str, set[str]]:
    """Tables of cases whose keys begin with a statement, by name."""
    found: dict[str, set[str]] = {}
    for node in module.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict) and isinstance(node.targets[0], ast.Name):
            keys = [key.value for key in node.value.keys if isinstance(key, ast.Constant)]
            ids = {match.group(1) for key in keys if isinstance(key, str) and (match := _CASE.match(key))}
            if ids:
                found[node.targets[0].id] = ids
    return found


def _named(node: ast.FunctionDef | ast.AsyncFunctionDef, text: str) -> set[str]:
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    source = "\n".join(text.splitlines()[first - 1 : node.end_lineno])
    ids = set(_QUOTED.findall(source))
    if match := _NAME.match(node.name):
        chapter = ".".join(match.group(1, 2, 3))
        ids |= {f"{chapter}-{number}" for number in match.group(4).strip("_").split("_")}
    return ids


def table() -> str:
    """`docs/conformance.md`, made from the statements and the tests."""
    tests = held_by()
    counts = {who: sum(statement.who == who for statement in STATEMENTS) for who in (SERVER, CLIENT, WITHIN)}
    lines = [
        "# MQTT 3.1.1, statement by statement",
        "",
        "Made by `make conformance` from `tests/conformance/statements.py` and the tests; do not edit it. The words",
        "are ours and short; the numbers are those of the OASIS standard (Appendix B).",
        "",
        f"{len(STATEMENTS)} normative statements. {counts[SERVER]} can be seen to be kept or broken by a server; each",
        f"has a test that is named for it or quotes it. {counts[CLIENT]} bind clients only. {counts[WITHIN]} show in",
        "no packet; their row says what Aldis does.",
        "",
        "| statement | what it says | held by |",
        "|---|---|---|",
    ]
    for statement in STATEMENTS:
        held = [where.rpartition("::")[2] for where in tests.get(statement.id, [])]
        if statement.who == SERVER:
            cell = "<br>".join(f"`{name}`" for name in held[:3])
            if len(held) > 3:
                cell += f"<br>and {len(held) - 3} more"
        else:
            cell = "clients" if statement.who == CLIENT else "–"
        lines.append(f"| MQTT-{statement.id} | {statement.words} | {cell} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (ROOT / "docs" / "conformance.md").write_text(table(), encoding="utf-8")
