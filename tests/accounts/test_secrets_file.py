"""The server's keys on disk."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aldis.accounts_api.secrets_file import Secrets, SecretsError, change_master_keys, load, load_or_make, make


def document(path: Path) -> dict[str, object]:
    return json.loads(path.read_text())


def test_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "secrets.json"
    old_mask = os.umask(0)
    try:
        made = load_or_make(path)
    finally:
        os.umask(old_mask)
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(made.signing_key) == len(made.master_key) == 32
    assert made.signing_key != made.master_key
    assert load_or_make(path) == made
    assert [entry.name for entry in path.parent.iterdir()] == ["secrets.json"], "no draft is left behind"
    assert load_or_make(tmp_path / "other.json") != made


def test_keys_do_not_show(tmp_path: Path) -> None:
    made = load_or_make(tmp_path / "secrets.json")
    assert "key" not in repr(made)


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o620, 0o660, 0o650, 0o601, 0o666, 0o777])
def test_a_file_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secrets.json"
    load_or_make(path)
    before = path.read_bytes()
    path.chmod(mode)
    with pytest.raises(SecretsError, match="chmod 0600"):
        load_or_make(path)
    assert path.read_bytes() == before
    for good in (0o400, 0o440, 0o640):
        path.chmod(good)
        load_or_make(path)


GOOD_KEY = base64.b64encode(b"k" * 32).decode()
DAMAGED = {
    "empty": "",
    "cut": '{"version": 1, "signing_key": "',
    "not an object": "[]",
    "no version": json.dumps({"signing_key": GOOD_KEY, "master_key": GOOD_KEY}),
    "a later version": json.dumps({"version": 2, "signing_key": GOOD_KEY, "master_key": GOOD_KEY}),
    "a key is missing": json.dumps({"version": 1, "signing_key": GOOD_KEY}),
    "a key is short": json.dumps({"version": 1, "signing_key": GOOD_KEY, "master_key": "c2hvcnQ="}),
    "a key is not base64": json.dumps({"version": 1, "signing_key": "SECRET*" * 6, "master_key": GOOD_KEY}),
    "a key is a number": json.dumps({"version": 1, "signing_key": 7, "master_key": GOOD_KEY}),
}


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_file_is_refused_and_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "secrets.json"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(SecretsError, match="is damaged") as refused:
        load_or_make(path)
    assert "SECRET" not in str(refused.value) and GOOD_KEY not in str(refused.value)
    assert path.read_text() == text


def test_a_folder_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "secrets.json").mkdir(mode=0o700)
    with pytest.raises(SecretsError):
        load_or_make(tmp_path / "secrets.json")


def test_processes_that_start_at_once_get_the_same_keys(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from aldis.accounts_api.secrets_file import load_or_make;"
        "sys.stdin.read(); keys = load_or_make(pathlib.Path(sys.argv[1]));"
        "print((keys.signing_key + keys.master_key).hex())"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "secrets.json")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    started = [subprocess.Popen(command, **pipes) for _ in range(4)]
    for process in started:
        process.stdin.close()
    printed = {process.stdout.read() for process in started}
    assert [process.wait() for process in started] == [0] * 4
    for process in started:
        process.stdout.close()
    assert len(printed) == 1 and len(printed.pop().strip()) == 128


def test_made_on_purpose_and_never_over_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "aldis.json"
    make(path)
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_bytes()
    with pytest.raises(SecretsError, match="is there already and stays"):
        make(path)
    assert path.read_bytes() == before
    assert load(path) == load_or_make(path)


@pytest.mark.parametrize("there", ["", "not a secrets file"])
def test_whatever_is_there_stays(tmp_path: Path, there: str) -> None:
    path = tmp_path / "aldis.json"
    path.write_text(there)
    with pytest.raises(SecretsError, match="stays"):
        make(path)
    assert path.read_text() == there


def test_a_shared_file_that_is_missing_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "aldis.json"
    with pytest.raises(SecretsError, match=f"`aldis secrets make {path}`"):
        load(path)
    assert not path.exists()


def test_the_key_of_frames_comes_from_the_file_and_is_none_of_its_keys() -> None:
    """Known values: nodes of two versions must agree."""
    keys = Secrets(b"s" * 32, b"m" * 32)
    assert keys.transfer_key.hex() == "b40b46efca5b90181d0419984170cb72e8901dc835d077d133209acc8fd7766b"
    assert keys.transfer_key != Secrets(b"t" * 32, b"m" * 32).transfer_key
    assert "transfer" not in repr(keys)


def test_master_keys_are_replaced_whole_and_with_the_files_mode(tmp_path: Path) -> None:
    path = tmp_path / "aldis.json"
    before = load_or_make(path)
    path.chmod(0o640)
    new = b"n" * 32
    change_master_keys(path, lambda there: [*there, new])
    changed = load(path)
    assert changed.master_keys == (before.master_key, new) and changed.signing_key == before.signing_key
    assert path.stat().st_mode & 0o777 == 0o640
    change_master_keys(path, lambda there: there[1:])
    assert load(path) == Secrets(before.signing_key, new) and "more" not in path.read_text()
    assert "nnnn" not in repr(changed)

    def fail(_: list[bytes]) -> list[bytes]:
        raise RuntimeError("halfway")

    kept = path.read_bytes()
    with pytest.raises(RuntimeError):
        change_master_keys(path, fail)
    assert path.read_bytes() == kept and [one.name for one in tmp_path.iterdir()] == ["aldis.json"]


def test_of_several_who_add_a_master_key_none_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "aldis.json"
    load_or_make(path)
    new = [bytes([number]) * 32 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: change_master_keys(path, lambda there: [*there, key]), new))
    assert set(load(path).more_master_keys) == set(new)


@pytest.mark.parametrize("more", ['"SECRET"', "{}", '["c2hvcnQ="]', "[7]", '["SECRET*SECRET*SECRET*"]'])
def test_damaged_further_master_keys_are_refused(tmp_path: Path, more: str) -> None:
    path = tmp_path / "aldis.json"
    path.write_text(
        f'{{"version": 1, "signing_key": "{GOOD_KEY}", "master_key": "{GOOD_KEY}", "more_master_keys": {more}}}'
    )
    path.chmod(0o600)
    with pytest.raises(SecretsError, match=r"is damaged: more_master_keys") as refused:
        load(path)
    assert "SECRET" not in str(refused.value) and GOOD_KEY not in str(refused.value)
