"""What a bot shows to the server: a device token, or the tokens of a login with its password."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from aldis.mobile_client_demo.rest import Login, Refused, Rest

Answer = TypeVar("Answer")


class NoLogin(Exception):
    """Keys and files are REST, and REST wants a login: give the bot its password and the address of the API."""


class Access:
    """Thread-safe. A login with a password ends the one before on this device and its connection, so it is made only
    at the start and when the server refuses the present one."""

    def __init__(
        self, user: str, device: str, *, token: str = "", password: str = "", rest: Rest | None = None
    ) -> None:
        if not token and not (password and rest):
            raise ValueError("a bot needs a device token, or a password and the address of the REST API")
        self._user, self._device, self._token, self._password, self._rest = user, device, token, password, rest
        self._login: Login | None = None
        self._lock = threading.Lock()

    def credential(self) -> str:
        """The MQTT password. Raises `RestError`."""
        return self._token or self._present().access_token

    def refused(self) -> bool:
        """The server did not let us in; whether there is another credential to try."""
        with self._lock:
            had, self._login = self._login is not None, None
        return had and not self._token

    def call(self, work: Callable[[Rest, Login], Answer]) -> Answer:
        """One REST call, again with fresh tokens if these have expired. Raises `RestError` and `NoLogin`."""
        if self._rest is None or not self._password:
            raise NoLogin("a device token opens MQTT only")
        login = self._present()
        try:
            return work(self._rest, login)
        except Refused as refusal:
            if refusal.status != 401:
                raise
        return work(self._rest, self._renewed(login))

    def _present(self) -> Login:
        with self._lock:
            if self._login is None:
                assert self._rest is not None
                self._login = self._rest.login(self._user, self._password, self._device)
            return self._login

    def _renewed(self, expired: Login) -> Login:
        assert self._rest is not None
        with self._lock:
            if self._login is None or self._login is expired:
                try:
                    self._login = self._rest.refresh(expired)
                except Refused:
                    self._login = self._rest.login(self._user, self._password, self._device)
            return self._login
