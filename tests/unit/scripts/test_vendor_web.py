"""The libraries of the web chat: what lies there is what its page says, and loads in a browser as it is."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from scripts.vendor_web import FOLDER, PACKAGES, README, differences


def test_every_file_is_the_one_that_the_page_names() -> None:
    assert differences(FOLDER) == []


def test_every_library_has_its_licence_beside_it() -> None:
    for package in PACKAGES:
        licences = [FOLDER / target for _, target in package.files if "LICENSE" in target]
        assert licences and all("Copyright" in path.read_text() for path in licences), package.name


@pytest.mark.parametrize("name", ["changed", "missing", "further", "unnamed"])
def test_a_difference_is_found(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "vendor"
    shutil.copytree(FOLDER, folder)
    if name == "changed":
        (folder / "mqtt.esm.js").write_bytes((folder / "mqtt.esm.js").read_bytes() + b" ")
    elif name == "missing":
        (folder / "noble-ciphers" / "aes.js").unlink()
    elif name == "further":
        (folder / "more.js").write_text("")
    else:
        page = (folder / README).read_text()
        (folder / README).write_text(re.sub(r"\| `htm-preact.*\n", "", page))
    assert len(differences(folder)) in (1, 2)


def test_no_module_asks_for_one_that_only_a_bundler_finds() -> None:
    statement = re.compile(r"""^\s*(?:import|export)\s(?:[^'"()]*?\sfrom\s)?["']([^"']+)["']""", re.MULTILINE)
    asked = {
        path: statement.findall(re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL))
        for path in FOLDER.rglob("noble-*/*.js")
    }
    assert sum(map(len, asked.values())) > 5
    for path, modules in asked.items():
        assert all((path.parent / module).is_file() and module.startswith("./") for module in modules), path


def test_they_load_and_do_their_work() -> None:
    """Without mqtt, whose build for browsers is for browsers alone: the tests in a browser need it all the time."""
    program = f"""
        import {{ html, h, render, useState }} from "{FOLDER}/htm-preact.esm.js";
        import {{ gcm }} from "{FOLDER}/noble-ciphers/aes.js";
        import {{ sha256, sha512 }} from "{FOLDER}/noble-hashes/sha2.js";
        import {{ hmac }} from "{FOLDER}/noble-hashes/hmac.js";
        import {{ hkdf }} from "{FOLDER}/noble-hashes/hkdf.js";
        const box = gcm(new Uint8Array(32), new Uint8Array(12));
        const open = box.decrypt(box.encrypt(new TextEncoder().encode("hello")));
        console.log(html`<b class="x">1</b>`.type, new TextDecoder().decode(open));
        console.log(Buffer.from(sha256(new Uint8Array())).toString("hex"));
    """
    done = subprocess.run(
        ["node", "--input-type=module", "--eval", program], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.stdout.splitlines() == [
        "b hello",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    ], done.stderr
