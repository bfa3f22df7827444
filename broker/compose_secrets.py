"""The composition root's part for keys: where they are, and who may make them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from aldis.broker.compose_store import StartFailed
from aldis.config.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aldis.accounts_api.secrets_file import Secrets
    from aldis.bridge.accounts.master_keys import MasterKeys

logger = logging.getLogger(__name__)


def open_secrets(settings: Settings, *, make: bool = True) -> Secrets:
    """The keys of this server. One that is alone makes them when they are missing (unless not to `make` them); the
    processes of a cluster must all be given the same. Blocks. Raises `StartFailed`."""
    from aldis.accounts_api.secrets_file import SecretsError, load, load_or_make

    path = settings.data / settings.accounts.secret_file
    try:
        return load_or_make(path) if make and settings.cluster is None else load(path)
    except SecretsError as error:
        raise StartFailed(str(error)) from error


def master_keys(settings: Settings, secrets: Secrets) -> MasterKeys:
    """What opens relation keys: of the settings, else of the secrets file, which is read once more when the database
    names one that is not known yet."""
    from aldis.bridge.accounts.master_keys import MasterKeys

    given = settings.accounts.keys.master_keys()
    return MasterKeys(given) if given else MasterKeys(secrets.master_keys, lambda: _again(settings))


def _again(settings: Settings) -> Sequence[bytes]:
    from aldis.accounts_api.secrets_file import SecretsError, load

    try:
        return load(settings.data / settings.accounts.secret_file).master_keys
    except SecretsError as error:
        logger.error("the secrets file could not be read again: %s", error)
        return ()


def make_secrets(path: Path) -> None:
    """New keys in a new file. Raises `StartFailed`."""
    from aldis.accounts_api.secrets_file import SecretsError, make

    try:
        make(path)
    except SecretsError as error:
        raise StartFailed(str(error)) from error
