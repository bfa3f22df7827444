"""The keys of relations: how many, how often new ones, and what wraps them."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated

from pydantic import Field, SecretStr, field_validator

from aldis.config.section import Positive, Section

KEY_BYTES = 32


class RelationKeys(Section):
    master: SecretStr | None = None
    """The master key, base64 of 32 bytes, in place of the one in the secrets file, for who keeps secrets in variables
    (`ALDIS_ACCOUNTS__KEYS__MASTER`). Several with commas between them while they are exchanged."""
    max_versions: Positive = 200
    """Versions of one relation's key, old ones included; the next one is refused with 409."""
    max_devices: Positive = 20
    """Devices of one user with a public key; the next one is refused with 409. A sealed key is wrapped for each device
    of both members in one request, which must fit into `accounts.max_body_size`."""
    burst: Positive = 20
    """New key versions of one relation that one of its members may make at once; and public keys that one user may
    register at once."""
    per_minute: Annotated[float, Field(gt=0)] = 1.0
    """How many of each one regains every minute. A version is kept as long as the friendship."""

    @field_validator("master")
    @classmethod
    def _is_keys(cls, master: SecretStr | None) -> SecretStr | None:
        if master is not None and any(key is None for key in _decoded(master)):
            raise ValueError("must be base64 of 32 bytes; several with commas between them")
        return master

    def master_keys(self) -> list[bytes]:
        """What `master` says, first the one for a database that has none yet; empty if it says nothing."""
        return [] if self.master is None else [key for key in _decoded(self.master) if key is not None]


def _decoded(master: SecretStr) -> list[bytes | None]:
    keys: list[bytes | None] = []
    for text in master.get_secret_value().split(","):
        try:
            key = base64.b64decode(text.strip(), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        keys.append(key if len(key) == KEY_BYTES else None)
    return keys
