"""An S3-compatible server for tests: moto's, in this process, on a free port of 127.0.0.1.

It speaks the real protocol over HTTP: buckets, multipart uploads and what is left of them, ranges, listings,
conditional puts. It does not look at signatures, and says nothing of durability.
"""

from __future__ import annotations

import logging
import re
import secrets
import urllib.request
from typing import Any, Self

from moto.server import ThreadedMotoServer

from aldis.bridge.s3_blobs import Bucket


class S3Server:
    """One server; `with` starts and stops it."""

    def __enter__(self) -> Self:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server: Any = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        self.port: int = self._server.get_host_and_port()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    def ask(self, method: str, path: str) -> bytes:
        request = urllib.request.Request(self.url + path, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=10) as answer:
            return answer.read()

    def new_bucket(self, **changes: Any) -> Bucket:
        name = f"files-{secrets.token_hex(4)}"
        self.ask("PUT", f"/{name}")
        values: dict[str, Any] = {
            "bucket": name,
            "prefix": "aldis",
            "region": "us-east-1",
            "endpoint": self.url,
            "allow_http": True,
            "access_key_id": "someone",
            "secret_key": "secret",
            "ca_file": None,
            "timeout": 5.0,
            "max_retries": 1,
        }
        return Bucket(**{**values, **changes})

    def keys(self, bucket: Bucket) -> list[str]:
        return re.findall(r"<Key>(.*?)</Key>", self.ask("GET", f"/{bucket.bucket}?list-type=2").decode())

    def unfinished(self, bucket: Bucket) -> int:
        """Multipart uploads that were neither completed nor aborted."""
        return self.ask("GET", f"/{bucket.bucket}?uploads").decode().count("<UploadId>")
