"""What a bot shows to the server: a device token, or the tokens of a login."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from aldis.mobile_client_demo.rest import Login, Refused, Rest, RestError

Answer = TypeVar("Answer")
UNAUTHORISED = 401


class NoLogin(Exception):
    """Keys and files are REST, and REST wants a login: give the bot its password and the address of the API."""


class Access:
    """Thread-safe. A login with a password ends the one before on this device and its connection, so it is made only
    at the start and when the server refuses the present one.

    Who keeps logins over runs gives the last one as `login`, and `keep`, which is called with each new one before that
    is used: a refresh token is good once. Without a password the end of the login is the end; `keep` gets None then.
    """

    def __init__(
        self,
        user: str,
        device: str,
        *,
        token: str = "",
        password: str = "",
        rest: Rest | None = None,
        login: Login | None = None,
        keep: Callable[[Login | None], None] = lambda _: None,
    ) -> None:
        if not token and not ((password or login) and rest):
            raise ValueError("a bot needs a device token, or a password and the address of the REST API")
        self._user, self._device, self._token, self._password, self._rest = user, device, token, password, rest
        self._login, self._keep = login, keep
        self._lock = threading.Lock()

    def credential(self) -> str:
        """The MQTT password. Raises `RestError`, `NoLogin`."""
        return self._token or self._present().access_token

    def refused(self) -> bool:
        """The server did not let us in; whether there is another credential to try, now or later."""
        if self._token:
            return False
        with self._lock:
            had = self._login
            if had is None:
                return False
            if self._password:
                self._login = None
                return True
        try:
            self._renewed(had)
        except NoLogin:
            return False
        except RestError:
            return True  # nobody has said yet that the login is over
        return True

    def call(self, work: Callable[[Rest, Login], Answer]) -> Answer:
        """One REST call, again with fresh tokens if these have expired. Raises `RestError` and `NoLogin`."""
        if self._rest is None:
            raise NoLogin("a device token opens MQTT only")
        login = self._present()
        try:
            return work(self._rest, login)
        except Refused as refusal:
            if refusal.status != UNAUTHORISED:
                raise
        return work(self._rest, self._renewed(login))

    def _present(self) -> Login:
        with self._lock:
            if self._login is None:
                self._login = self._logged_in()
            return self._login

    def _logged_in(self) -> Login:
        assert self._rest is not None
        if not self._password:
            raise NoLogin("the login of this device is over")
        login = self._rest.login(self._user, self._password, self._device)
        self._keep(login)
        return login

    def _renewed(self, expired: Login) -> Login:
        assert self._rest is not None
        with self._lock:
            if self._login is None or self._login is expired:
                try:
                    login = self._rest.refresh(expired)
                    self._keep(login)
                except Refused as refusal:
                    if refusal.status != UNAUTHORISED and not self._password:
                        raise  # asked too often: the login is as good as it was
                    if not self._password:
                        self._keep(None)
                    self._login = None
                    login = self._logged_in()
                self._login = login
            return self._login
