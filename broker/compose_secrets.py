"""The composition root's part for keys: where they are, and who may make them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from aldis.broker.compose_store import StartFailed
from aldis.config.settings import Settings

if TYPE_CHECKING:
    from aldis.accounts_api.secrets_file import Secrets


def open_secrets(settings: Settings) -> Secrets:
    """The keys of this server. One that is alone makes them when they are missing; the processes of a cluster must all
    be given the same. Blocks. Raises `StartFailed`."""
    from aldis.accounts_api.secrets_file import SecretsError, load, load_or_make

    path = settings.data / settings.accounts.secret_file
    try:
        return load_or_make(path) if settings.cluster is None else load(path)
    except SecretsError as error:
        raise StartFailed(str(error)) from error


def make_secrets(path: Path) -> None:
    """New keys in a new file. Raises `StartFailed`."""
    from aldis.accounts_api.secrets_file import SecretsError, make

    try:
        make(path)
    except SecretsError as error:
        raise StartFailed(str(error)) from error
