"""The settings of files: what is refused, and that the secret key is a file's affair."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aldis.config.settings import Settings, SettingsError, load

S3 = {"bucket": "aldis-files"}


@pytest.fixture(autouse=True)
def somewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("key").write_text("hush\n")
    Path("key").chmod(0o600)
    Path("open-key").write_text("hush\n")
    Path("open-key").chmod(0o644)


def with_files(**files: Any) -> Settings:
    return load("embedded", {"files": files})


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"enabled": False},
        {"folder": "/srv/files"},
        {"allowed_types": ["image/*", "application/vnd.ms-excel"]},
        {"backend": "s3", "s3": S3},
        {"backend": "s3", "s3": {**S3, "endpoint": "https://s3.example.org:9000", "prefix": "a/b"}},
        {"backend": "s3", "s3": {**S3, "endpoint": "http://127.0.0.1:9000", "allow_http": True}},
        {"backend": "s3", "s3": {**S3, "access_key_id": "me", "secret_key_file": "key"}},
    ],
)
def test_what_is_good(files: dict[str, Any]) -> None:
    with_files(**files)


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"max_size": 0}, r"files\.max_size: .*greater than 0"),
        ({"max_size": 2**40}, r"files\.max_size: must not exceed files\.max_total_per_user"),
        ({"max_files_per_user": 0}, r"files\.max_files_per_user: .*greater than 0"),
        ({"max_receivers": 0}, r"files\.max_receivers: .*greater than 0"),
        ({"keep_days": -1}, r"files\.keep_days: .*greater than or equal to 0"),
        ({"min_free": -1}, r"files\.min_free: .*greater than or equal to 0"),
        ({"max_uploads": 2}, r"files\.max_uploads_per_user: must not exceed files\.max_uploads"),
        ({"max_downloads": 2}, r"files\.max_downloads_per_user: must not exceed files\.max_downloads"),
        ({"stall_timeout": 0}, r"files\.stall_timeout: .*greater than 0"),
        ({"stall_timeout": 9_999}, r"files\.stall_timeout: must not exceed files\.upload_timeout"),
        ({"threads": 65}, r"files\.threads: .*less than or equal to 64"),
        ({"clean_interval": 0}, r"files\.clean_interval: .*greater than 0"),
        ({"allowed_types": []}, r"files\.allowed_types: must have one entry"),
        ({"allowed_types": ["*"]}, r"files\.allowed_types\.0: must be a media type"),
        ({"allowed_types": ["Image/PNG"]}, r"files\.allowed_types\.0: must be a media type"),
        ({"allowed_types": ["image/*/x"]}, r"files\.allowed_types\.0: must be a media type"),
        ({"folder": "../elsewhere"}, r"files\.folder: must be a folder of its own"),
        ({"folder": "."}, r"files\.folder: must be a folder of its own"),
        ({"folder": "/"}, r"files\.folder: must be a folder of its own"),
        ({"backend": "ftp"}, r"files\.backend: .*'disk'"),
        ({"backend": "s3"}, r"files\.s3: must be given where files\.backend is s3"),
        ({"s3": S3}, r"files\.s3: has no meaning where files\.backend is disk"),
        ({"sized": 1}, r"files\.sized: unknown setting"),
    ],
)
def test_what_is_refused(files: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint):
        with_files(**files)


@pytest.mark.parametrize(
    ("s3", "complaint"),
    [
        ({"bucket": "A"}, r"files\.s3\.bucket: must be the name of a bucket"),
        ({"bucket": "a/../b"}, r"files\.s3\.bucket: must be the name of a bucket"),
        ({"prefix": "../x"}, r"files\.s3\.prefix: must be words"),
        ({"prefix": "/x"}, r"files\.s3\.prefix: must be words"),
        ({"region": "x y"}, r"files\.s3\.region"),
        ({"endpoint": "s3.example.org"}, r"files\.s3\.endpoint: must have the form"),
        ({"endpoint": "https://me:hush@s3.example.org"}, r"files\.s3\.endpoint: must have no user"),
        ({"endpoint": "https://s3.example.org/path"}, r"files\.s3\.endpoint: must have no user, path"),
        ({"endpoint": "https://s3.example.org:port"}, r"files\.s3\.endpoint: is not an address"),
        ({"endpoint": "http://s3.example.org"}, r"files\.s3\.endpoint: begins with http://"),
        ({"allow_http": True}, r"files\.s3\.allow_http: has no meaning"),
        ({"access_key_id": "me"}, r"files\.s3: access_key_id and secret_key_file go together"),
        ({"secret_key_file": "key"}, r"files\.s3: access_key_id and secret_key_file go together"),
        ({"access_key_id": "me", "secret_key_file": "none"}, r"files\.s3\.secret_key_file: there is no file none"),
        ({"access_key_id": "me", "secret_key_file": "open-key"}, r"files\.s3\.secret_key_file: open-key has mode 0644"),
        ({"ca_file": "none"}, r"files\.s3\.ca_file: there is no file none"),
        ({"timeout": 0}, r"files\.s3\.timeout: .*greater than 0"),
        ({"max_retries": -1}, r"files\.s3\.max_retries: .*greater than or equal to 0"),
    ],
)
def test_what_is_refused_of_s3(s3: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint) as refused:
        with_files(backend="s3", s3={**S3, **s3})
    assert "hush" not in str(refused.value)
