"""The libraries of the web chat, `mobile_client_demo/web/vendor/`: `make vendor` makes the folder anew.

    python -m scripts.vendor_web [FOLDER]

Each file is taken unchanged out of a package of npm (`npm pack` fetches it from wherever npm is told to look), and only
if the package has the hash that stands here. README.md in the folder names every file with its origin and its SHA-256;
`differences` tells what does not fit that page.

A newer version: change it here, with what `npm view NAME@VERSION dist.integrity` says, and run this.
"""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "mobile_client_demo" / "web" / "vendor"
README = "README.md"


@dataclass(frozen=True)
class Package:
    name: str
    version: str
    integrity: str
    source: str
    """Where people read its code."""
    licence: str
    files: tuple[tuple[str, str], ...]
    """What is taken: path in the package, path in the folder."""


def _noble(name: str, *modules: str) -> tuple[tuple[str, str], ...]:
    return tuple((file, f"noble-{name}/{file}") for file in ("LICENSE", *(f"{one}.js" for one in modules)))


PACKAGES = (
    Package(
        "mqtt",
        "5.16.0",
        "sha512-G0VsEtuJz5sJUgZJaaADMVfW7SIFPzkIuHR+d6rk+tBeSwdCfd9BaIRycRfd2AbyFDEmLlFM+SDQeti/+IbOnw==",
        "https://github.com/mqttjs/MQTT.js",
        "MIT",
        (("dist/mqtt.esm.js", "mqtt.esm.js"), ("LICENSE.md", "LICENSE.mqtt.md")),
    ),
    Package(
        "htm",
        "3.1.1",
        "sha512-983Vyg8NwUE7JkZ6NmOqpCZ+sh1bKv2iYTlUkzlWmA5JD2acKoxd4KVxbMmxX/85mtfdnDmTFoNKcg5DGAvxNQ==",
        "https://github.com/developit/htm",
        "Apache-2.0",
        (("preact/standalone.module.js", "htm-preact.esm.js"), ("LICENSE", "LICENSE.htm.txt")),
    ),
    Package(
        "preact",
        "11.2.0",
        "sha512-/HfHI/7N84e6GrWBJ3J280z3mLaRJiDcSvj/A+y/4AbLnND/1UlGHe1sR6oYuTGwId0nP7dqDU9OnLxMPZ7xBg==",
        "https://github.com/preactjs/preact",
        "MIT",
        (("LICENSE", "LICENSE.preact.txt"),),
    ),
    Package(
        "@noble/ciphers",
        "2.4.0",
        "sha512-AnjFn0Jv92laAkvMrghlFZq4qQCIN/4DxFV/eooqtC2YTjB7kBeLMS2T9KJX4Dn+ZVXLOwK0lSgqDtx9gvxtiw==",
        "https://github.com/paulmillr/noble-ciphers",
        "MIT",
        _noble("ciphers", "aes", "_polyval", "utils"),
    ),
    Package(
        "@noble/hashes",
        "2.4.0",
        "sha512-X5XaVWZIBCT7HHZGm5I7ZQXDwLG+bGXuSrMQAW+7Zvl87h1kmc1ZB1VSRJcpUfoUrGQp4Fkoxm5kZ+Ms+aW+eA==",
        "https://github.com/paulmillr/noble-hashes",
        "MIT",
        _noble("hashes", "sha2", "_md", "_u64", "utils", "hmac", "hkdf"),
    ),
)

_TEXT = """# Libraries of the web chat

Unchanged files of packages of npm, written by `make vendor` (`scripts/vendor_web.py`), which also says how to renew
them. A test compares them with the hashes below. The page loads nothing from another host.

- `htm-preact.esm.js` is Preact and htm in one module, as htm ships it; the Preact in it is the 10.x of htm's choice.
- `mqtt.esm.js` makes itself a worker out of a Blob for its timers unless it is given others; the page's policy forbids
  that. So hand `timerVariant: "native"`, or timers of your own, to `connect`.
- `noble-ciphers/` and `noble-hashes/` do what WebCrypto does not give to a page without HTTPS, and SHA-256 piece by
  piece.

| file | package | licence | SHA-256 |
|---|---|---|---|
"""


class NotVendored(Exception):
    """The folder could not be made; the text is for whoever tries."""


def make(folder: Path) -> None:
    """The folder anew; what was there is gone. Needs npm and its registry. Raises `NotVendored`, and then changes
    nothing."""
    with tempfile.TemporaryDirectory() as name:
        made = Path(name) / "vendor"
        rows = [row for package in PACKAGES for row in _take(package, Path(name), made)]
        (made / README).write_text(_TEXT + "".join(rows), "utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(made, folder)


def _take(package: Package, scratch: Path, folder: Path) -> Iterator[str]:
    """Puts the files of a package into the folder; their rows of the page."""
    wanted = f"{package.name}@{package.version}"
    packed = subprocess.run(
        ["npm", "pack", "--silent", wanted],  # noqa: S607 - wherever npm is
        cwd=scratch, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if packed.returncode != 0:
        raise NotVendored(f"npm pack {wanted}: {packed.stderr.strip()}")
    archive = scratch / packed.stdout.split()[-1]
    found = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != package.integrity:
        raise NotVendored(f"{wanted} is not what it was: {found}")
    with tarfile.open(archive) as tar:
        for source, target in package.files:
            member = tar.extractfile(f"package/{source}")
            if member is None:
                raise NotVendored(f"{wanted} has no {source}")
            content = member.read()
            (folder / target).parent.mkdir(parents=True, exist_ok=True)
            (folder / target).write_bytes(content)
            digest = hashlib.sha256(content).hexdigest()
            origin = f"[{package.name}]({package.source}) {package.version}"
            yield f"| `{target}` | {origin} | {package.licence} | `{digest}` |\n"


def differences(folder: Path) -> list[str]:
    """What is not as the folder's page says, and what the page says otherwise than this program. Asks nobody."""
    page = (folder / README).read_text("utf-8")
    rows = re.findall(r"^\| `([^`]+)` \| \[([^]]+)\]\(\S+\) (\S+) \| \S+ \| `([0-9a-f]{64})` \|$", page, re.MULTILINE)
    told = {file: (name, version) for file, name, version, _ in rows}
    ours = {target: (one.name, one.version) for one in PACKAGES for _, target in one.files}
    found = [
        f"{file}: {README} and the program disagree" for file in told.keys() | ours if told.get(file) != ours.get(file)
    ]
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {README}
    found += [f"{file}: nobody knows where it is from" for file in sorted(there - told.keys())]
    for file, _, _, digest in rows:
        if file not in there or hashlib.sha256((folder / file).read_bytes()).hexdigest() != digest:
            found.append(f"{file}: not the file that {README} names")
    return found


def main() -> int:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    try:
        make(folder)
    except (NotVendored, OSError) as error:
        print(f"vendor: {error}", file=sys.stderr)
        return 1
    wrong = differences(folder)
    print("\n".join(wrong) or f"{folder}: {sum(len(one.files) for one in PACKAGES)} files")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
