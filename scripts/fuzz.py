"""Fuzzing led by coverage: `make fuzz ARGS="--seconds 60"`, or one target: `make fuzz ARGS="codec --seconds 600"`.

Needs atheris (the extra `fuzz`; wheels for Linux on x86-64, Python 3.11 to 3.13). A target that fails writes its input
to `{target}-crash-…` in the folder of finds and ends with an error. `make fuzz ARGS="--keep codec FILE NAME"` puts it
into the corpus under a name that says what it found, and `make test` replays it for ever.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
NAMES = ("codec", "connection", "envelope", "inbox", "proxy", "topics", "websocket")
"""Written out, because the targets may be imported only under the fuzzer's eyes."""
FOLDER = ROOT / ".fuzz"
CORPUS = ROOT / "tests" / "hostile" / "corpus"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(NAMES)}; none means all")
    parser.add_argument("--seconds", type=int, default=60, help="time for each target")
    parser.add_argument("--finds", type=Path, default=FOLDER, help="where new inputs and crashes go (not committed)")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--keep", nargs=3, metavar=("TARGET", "FILE", "NAME"), help="put an input into the corpus")
    given = parser.parse_args()
    if given.keep:
        return _keep(*given.keep)
    unknown = [name for name in given.targets if name not in NAMES]
    if unknown:
        parser.error(f"no such target: {', '.join(unknown)}")
    if given.inside:
        _fuzz(given.targets[0], given.seconds, given.finds)
    failed = [name for name in given.targets or NAMES if not _run(name, given.seconds, given.finds)]
    print(f"failed: {', '.join(failed)}" if failed else "no faults found")
    return 1 if failed else 0


def _keep(target: str, file: str, name: str) -> int:
    line = f"{'-'.join(name.split())} {Path(file).read_bytes().hex()}\n"
    with (CORPUS / f"{target}.txt").open("a") as corpus:
        corpus.write(line)
    return 0


def _run(name: str, seconds: int, finds: Path) -> bool:
    """A process for each target: libFuzzer ends its process when it is through."""
    print(f"{name}: {seconds} s", flush=True)
    command = [sys.executable, __file__, name, "--inside", "--seconds", str(seconds), "--finds", str(finds)]
    return subprocess.run(command, check=False, cwd=ROOT).returncode == 0


def _fuzz(name: str, seconds: int, finds: Path) -> None:
    try:
        import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        sys.exit("atheris is missing: make fuzz installs it (Linux on x86-64 only)")
    sys.path.insert(0, str(ROOT))
    logging.disable(logging.CRITICAL)
    with atheris.instrument_imports(include=["aldis.broker", "aldis.plugins", "tests.hostile"]):
        from tests.hostile.fuzzing import TARGETS, inputs
    found = finds / name
    found.mkdir(parents=True, exist_ok=True)
    for kept, data in inputs(name).items():
        (found / kept).write_bytes(data)
    arguments = [
        f"-max_total_time={seconds}",
        "-max_len=4096",
        "-timeout=10",
        "-rss_limit_mb=2048",
        "-print_final_stats=1",
        "-verbosity=0",
        f"-artifact_prefix={finds}/{name}-",
        str(found),
    ]
    atheris.Setup([sys.argv[0], *arguments], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
