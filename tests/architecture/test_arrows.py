"""The arrows between the rooms, and the house rules, held by reading the source.

`RULES` says who may know whom. Every rule that covers a file counts. A planted violation of each shows that the
reader finds it.
"""

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("accounts_api", "bridge", "broker", "config", "mobile_client_demo", "plugins")
READ = (*ROOMS, "benchmarks", "scripts", "tests")
MAX_FILE = 400
MAX_FUNCTION = 80

WORLD = (
    *(
        "asyncio",
        "concurrent",
        "ctypes",
        "datetime",
        "getpass",
        "http",
        "io",
        "logging",
        "mmap",
        "multiprocessing",
        "os",
    ),
    *("pathlib", "queue", "random", "secrets", "select", "selectors", "shutil", "signal", "socket", "socketserver"),
    *("sqlite3", "ssl", "subprocess", "sys", "tempfile", "threading", "time", "urllib", "uuid"),
)
"""The part of the standard library that touches clock, chance, files, sockets, threads or logs."""


class Rule(NamedTuple):
    """Files matching `covers` (and not `spares`) import nothing under `never`. Of what lies under a key of `only`, they
    import nothing but what its value lists; the key "*" stands for everything outside the standard library."""

    name: str
    covers: tuple[str, ...]
    spares: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    only: Mapping[str, tuple[str, ...]] = MappingProxyType({})


CONNECTOR = ("broker/connector.py", "broker/amqtt_*.py")

RULES = (
    Rule("the core is pure", ("broker/core/**",), never=WORLD, only={"*": ("msgspec", "aldis.broker.core")}),
    Rule(
        "only plugins and the connector know amqtt", ("**",), ("plugins/**", *CONNECTOR, "tests/**"), never=("amqtt",)
    ),
    Rule(
        "back ends know their Protocol and their driver",
        ("bridge/**",),
        only={
            "aldis": ("aldis.bridge", "aldis.broker.ports", "aldis.broker.cluster_ports", "aldis.broker.journal_ports"),
            "*": (
                *("aldis", "aiomysql", "aiosqlite", "alembic", "obstore", "pymysql", "redis", "sqlalchemy"),
                *("cryptography", "jwt", "msgspec", "uuid_utils"),
            ),
        },
    ),
    Rule(
        "the broker does not know the accounts", ("broker/**",), ("broker/compose*.py",), never=("aldis.accounts_api",)
    ),
    Rule(
        "the composition root alone knows everyone",
        ("broker/**",),
        ("broker/compose*.py", "broker/cli.py"),
        never=("aldis.bridge", "aldis.mobile_client_demo"),
    ),
    Rule(
        "plugins translate",
        ("plugins/**",),
        # what a credential is, both sides must agree on: who gives it out and who checks it
        only={"aldis": ("aldis.broker", "aldis.config", "aldis.plugins", "aldis.bridge.credentials")},
    ),
    Rule("the demo imports nothing of ours", ("mobile_client_demo/**",), only={"aldis": ("aldis.mobile_client_demo",)}),
    Rule(
        "the accounts are never on the message path",
        ("accounts_api/**",),
        only={"aldis": ("aldis.accounts_api", "aldis.bridge", "aldis.broker.ports", "aldis.config")},
    ),
    Rule("benchmarks see what a client sees", ("benchmarks/**",), only={"aldis": ()}),
    Rule("the configuration knows nobody", ("config/**",), only={"aldis": ("aldis.config",)}),
    Rule("imports begin with aldis", ("**",), never=ROOMS),
)


def under(module: str, roots: tuple[str, ...]) -> bool:
    return any(module == root or module.startswith(root + ".") for root in roots)


def allowed(module: str, rule: Rule) -> bool:
    if under(module, rule.never):
        return False
    for root, members in rule.only.items():
        concerned = module.partition(".")[0] not in sys.stdlib_module_names if root == "*" else under(module, (root,))
        if concerned and not under(module, members):
            return False
    return True


def covered(path: str, rule: Rule) -> bool:
    def matches(pattern: str) -> bool:
        if pattern.endswith("**"):
            return path.startswith(pattern.removesuffix("**"))
        return Path(path).match(pattern)

    return any(map(matches, rule.covers)) and not any(map(matches, rule.spares))


def imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and full name of whatever is imported anywhere in the module, at type checking and by name included."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=str(module), names=names, level=0):
                yield from ((node.lineno, f"{module}.{alias.name}") for alias in names)
            case ast.ImportFrom(level=level) if level:
                yield node.lineno, "." * level
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(module)), *_],
            ):
                yield node.lineno, module


def violations(root: Path) -> Iterator[str]:
    """One line for each breach in the Python files of the house at `root`."""
    for file in sorted(file for room in READ for file in (root / room).rglob("*.py")):
        path = file.relative_to(root).as_posix()
        source = file.read_text(encoding="utf-8")
        tree = ast.parse(source, path)
        length = len(source.splitlines())
        if length > MAX_FILE:
            yield f"{path}: {length} lines; a file has at most {MAX_FILE}"
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MAX_FUNCTION:
                    yield f"{path}:{node.lineno}: {node.name} has {length} lines; a function has at most {MAX_FUNCTION}"
        rules = [rule for rule in RULES if covered(path, rule)]
        for line, module in imported(tree):
            if module.startswith("."):
                yield f"{path}:{line}: relative import; imports begin with aldis"
            for rule in rules:
                if not allowed(module, rule):
                    yield f"{path}:{line}: imports {module}; {rule.name}"


def test_the_arrows_hold() -> None:
    found = list(violations(ROOT))
    if found:
        pytest.fail("\n".join(found), pytrace=False)


def test_the_reader_sees_the_house() -> None:
    for room in ROOMS:
        assert list((ROOT / room).rglob("*.py")), f"{room} is empty: the arrows would hold for nothing"


LONG_FUNCTION = "def f():\n" + "    x = 1\n" * MAX_FUNCTION
LONG_FILE = "x = 1\n" * (MAX_FILE + 1)


@pytest.mark.parametrize(
    ("path", "source", "complaint"),
    [
        ("broker/core/x.py", "import asyncio", "imports asyncio; the core is pure"),
        ("broker/core/x.py", "def f():\n    import time", "x.py:2: imports time; the core is pure"),
        ("broker/core/x.py", "from os.path import join", "the core is pure"),
        ("broker/core/x.py", "import sqlalchemy", "the core is pure"),
        ("broker/core/x.py", "from aldis.broker import ports", "imports aldis.broker.ports; the core is pure"),
        ("broker/core/deep/x.py", "import logging", "the core is pure"),
        ("broker/core/x.py", "if TYPE_CHECKING:\n    from aldis.bridge.schema import metadata", "the core is pure"),
        ("broker/router.py", "import amqtt.broker", "only plugins and the connector know amqtt"),
        ("broker/connector_two.py", "import amqtt", "only plugins and the connector know amqtt"),
        ("benchmarks/x.py", "from amqtt.client import MQTTClient", "only plugins and the connector know amqtt"),
        ("broker/router.py", "importlib.import_module('amqtt.broker')", "only plugins and the connector know amqtt"),
        ("bridge/x.py", "from aldis.broker.router import Router", "back ends know their Protocol"),
        ("bridge/x.py", "import aldis.accounts_api", "back ends know their Protocol"),
        ("bridge/x.py", "import aldis.plugins.delivery", "back ends know their Protocol"),
        ("bridge/x.py", "import litestar", "back ends know their Protocol"),
        ("broker/node.py", "from aldis.accounts_api import app", "the broker does not know the accounts"),
        ("broker/cli.py", "import aldis.accounts_api.app", "the broker does not know the accounts"),
        ("broker/node.py", "from aldis import bridge", "the composition root alone knows everyone"),
        ("plugins/x.py", "import aldis.bridge.schema", "plugins translate"),
        ("mobile_client_demo/x.py", "from aldis.broker.core import packets", "the demo imports nothing of ours"),
        ("accounts_api/x.py", "from aldis.broker.node import Node", "the accounts are never on the message path"),
        ("accounts_api/x.py", "import aldis.plugins", "the accounts are never on the message path"),
        ("benchmarks/x.py", "from aldis.broker.cli import main", "benchmarks see what a client sees"),
        ("config/x.py", "import aldis.broker.ports", "the configuration knows nobody"),
        ("broker/x.py", "from bridge.schema import metadata", "imports begin with aldis"),
        ("tests/unit/test_x.py", "import broker.core", "imports begin with aldis"),
        ("broker/x.py", "from . import ports", "relative import"),
        ("broker/x.py", "from ..bridge import schema", "relative import"),
        ("plugins/x.py", LONG_FUNCTION, "f has 81 lines"),
        ("tests/unit/test_x.py", LONG_FUNCTION.replace("def", "async def"), "f has 81 lines"),
        ("benchmarks/x.py", LONG_FILE, "401 lines"),
    ],
)
def test_a_planted_violation_is_found(tmp_path: Path, path: str, source: str, complaint: str) -> None:
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text(source)
    found = list(violations(tmp_path))
    assert found
    assert all(line.startswith(path) for line in found)
    assert any(complaint in line for line in found)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (
            "broker/core/x.py",
            "import struct, msgspec\nfrom collections import deque\nfrom aldis.broker.core import codec",
        ),
        ("broker/connector.py", "from amqtt.broker import Broker"),
        ("broker/amqtt_seams.py", "import amqtt"),
        ("plugins/x.py", "from amqtt.plugins.base import BasePlugin\nfrom aldis.broker.ports import Store"),
        ("bridge/x.py", "import asyncio, sqlite3\nimport redis.asyncio\nfrom aldis.broker import ports"),
        ("broker/compose.py", "import aldis.accounts_api.app, aldis.bridge.memory, aldis.plugins"),
        ("mobile_client_demo/x.py", "import paho.mqtt.client\nfrom aldis.mobile_client_demo import wire"),
        ("accounts_api/x.py", "import litestar\nfrom aldis.bridge.schema import im_user\nimport aldis.config.settings"),
        ("benchmarks/x.py", "import subprocess\nfrom benchmarks import wire"),
        ("config/x.py", LONG_FUNCTION.replace("    x = 1\n", "", 1) + "x = 1\n" * (MAX_FILE - MAX_FUNCTION)),
    ],
)
def test_what_is_allowed_is_not_reported(tmp_path: Path, path: str, source: str) -> None:
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text(source)
    assert list(violations(tmp_path)) == []
