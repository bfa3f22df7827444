"""Who is there: the user that the client's certificate names, on a listener that asks for one."""

from __future__ import annotations

from dataclasses import dataclass

from amqtt.plugins.base import BaseAuthPlugin
from amqtt.session import Session

from aldis.broker.tls import certificate_user
from aldis.plugins.services import Services


class CertificateAuthentication(BaseAuthPlugin):
    """A verified client certificate is enough to be the user whom it names (`tls.client_certificate_user`): for things
    that keep a key and no password. With a password as well, both must be good, because all plugins must agree.

    Against a certificate that names somebody else than the CONNECT, nobody, or an account that is not there or is
    disabled. No opinion without a certificate. Any client identifier will do: a certificate is for a user, not for a
    device. Raises `StoreUnavailable` while the accounts cannot be read: CONNACK 3, the client tries again.
    """

    @dataclass
    class Config:
        """No options: which certificates there are is a matter of the listener."""

    async def authenticate(self, *, session: Session) -> bool | None:
        """True only for a certificate of exactly this user."""
        verdict = vouched(session)
        services = getattr(self.context, "services", None)
        if verdict and isinstance(services, Services):  # else the lab profile, which has no accounts
            return await services.directory.user_active(session.username or "")
        return verdict


def vouched(session: Session) -> bool | None:
    """Whether the client's certificate names the user of the CONNECT; None without a certificate. A CONNECT without a
    user name gets that of its certificate."""
    user = certificate_user(session.ssl_object)
    if user is None:
        return None
    if user and session.username is None:
        session.username = user
    return bool(user) and session.username == user
