"""The command: its options, and its answer when there is no server."""

import socket
import subprocess
import sys
import threading

import pytest

from aldis.mobile_client_demo import demo


@pytest.fixture
def closed_port():
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


def test_no_rest_server_is_said_in_one_line_and_ends_with_2(closed_port, capsys):
    assert demo.main(["--http", f"http://127.0.0.1:{closed_port}", "--mqtt", f"127.0.0.1:{closed_port}"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert f"http://127.0.0.1:{closed_port} does not answer" in printed.err
    assert "aldis up" in printed.err and "Traceback" not in printed.err


def test_no_mqtt_server_is_said_too(closed_port, capsys):
    with socket.create_server(("127.0.0.1", 0)) as http:

        def answer():
            connection, _ = http.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

        thread = threading.Thread(target=answer)
        thread.start()
        code = demo.main(["--http", f"http://127.0.0.1:{http.getsockname()[1]}", "--mqtt", f"localhost:{closed_port}"])
        thread.join()
    assert code == 2
    assert f"MQTT at localhost:{closed_port} does not answer" in capsys.readouterr().err


def test_as_a_module_it_hands_the_code_to_the_shell(closed_port):
    arguments = ["--http", f"http://127.0.0.1:{closed_port}", "--mqtt", f"127.0.0.1:{closed_port}"]
    ended = subprocess.run(
        [sys.executable, "-m", "aldis.mobile_client_demo", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ended.returncode == 2
    assert "does not answer" in ended.stderr and "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--mqtt", "localhost"],
        ["--mqtt", "localhost:0"],
        ["--mqtt", "localhost:65536"],
        ["--mqtt", "localhost:mqtt"],
        ["--http", "ftp://localhost"],
        ["--messages", "1"],
        ["--messages", "many"],
        ["--timeout", "0"],
        ["--timeout", "-1"],
        ["--unknown"],
    ],
)
def test_wrong_options_end_with_usage(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        demo.main(arguments)
    assert ended.value.code == 2
    assert "usage: aldis demo" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "address"),
    [("host:1883", ("host", 1883)), (":1883", ("127.0.0.1", 1883)), ("[::1]:1", ("::1", 1))],
)
def test_addresses(text, address):
    assert demo._address(text) == address


@pytest.mark.parametrize("nodes", ["localhost:1", "localhost:1,", "localhost:1,localhost", ",", "a:1,b:0"])
def test_nodes_are_two_or_more_addresses(nodes, capsys):
    with pytest.raises(SystemExit) as ended:
        demo.main(["--nodes", nodes])
    assert ended.value.code == 2
    assert "argument --nodes: not " in capsys.readouterr().err
