"""What is installed is what runs from the source: the wheel has every file that the program opens."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from aldis.broker import compose_web

ROOT = Path(__file__).parents[3]
ROOMS = ("accounts_api", "bridge", "broker", "config", "mobile_client_demo", "plugins")
DATA = ("mobile_client_demo/web", "accounts_api/static")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: setuptools leaves things behind where it builds."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ROOMS:
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source" / name)
    build = "import sys; from setuptools.build_meta import build_wheel; print(build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", build, folder], cwd=folder / "source", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = folder.glob("*.whl")
    return made


def test_every_file_of_the_pages_is_in_it(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    for folder in DATA:
        files = [path for path in (ROOT / folder).rglob("*") if path.is_file() and not path.name.startswith(".")]
        wanted = {f"aldis/{path.relative_to(ROOT).as_posix()}" for path in files}
        assert wanted and wanted <= packed, sorted(wanted - packed)
    assert {f"aldis/config/{path.name}" for path in (ROOT / "config").glob("*.yaml")} <= packed


def test_the_program_finds_them_where_it_is_installed_and_where_it_is_written(wheel: Path, tmp_path: Path) -> None:
    assert (compose_web._folder() / "index.html").samefile(ROOT / "mobile_client_demo" / "web" / "index.html")
    zipfile.ZipFile(wheel).extractall(tmp_path)
    program = (
        "from aldis.broker.compose_web import _folder; from aldis.accounts_api.web_files import read_web_files;"
        "print(_folder(), len(read_web_files(_folder())))"
    )
    environment = {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    folder, count = done.stdout.split()
    assert folder == str(tmp_path / "aldis" / "mobile_client_demo" / "web") and int(count) > 15
