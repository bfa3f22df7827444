"""Who is there: the MQTT user name and password of CONNECT, checked against access tokens and device tokens."""

from __future__ import annotations

from dataclasses import dataclass

from amqtt.plugins.base import BaseAuthPlugin
from amqtt.session import Session

from aldis.bridge.credentials import CredentialError, hashed, is_device_token
from aldis.broker.amqtt_plugins import GRANT
from aldis.broker.core.session import EPHEMERAL
from aldis.broker.ports import Grant
from aldis.plugins.certificate import vouched
from aldis.plugins.services import services_of


class TokenAuthentication(BaseAuthPlugin):
    """user name = user id, password = access token or device token, client identifier = device id.

    Both kinds of token name their user and their device, so a token that leaks from one device opens no other. An empty
    client identifier is allowed with any token of the user: it gets an ephemeral, live-only session.
    Raises `StoreUnavailable` while the accounts cannot be read: CONNACK 3, the client tries again.

    Without a password it has no opinion on a client whose certificate names that very user, and is against everybody
    else. So a certificate alone is enough where `CertificateAuthentication` is loaded to speak for it; where it is not,
    nobody does, and the client is refused. A password that is given must be good, whatever the certificate says.
    """

    @dataclass
    class Config:
        """No options."""

    async def authenticate(self, *, session: Session) -> bool | None:
        """True only for a good token of exactly this user and device."""
        services = services_of(self.context)
        if session.password is None and vouched(session):
            return None
        password, user, device = session.password, session.username, session.client_id
        if not password or not user or device is None:
            return False
        grant = await self._grant(password)
        if grant is None or grant.user != user:
            return False
        if grant.device is not None and grant.device != device and not device.startswith(EPHEMERAL):
            return False
        if grant.session is not None and not is_device_token(password):
            # a device token was looked up a moment ago, revocation included
            if not await services.directory.session_active(grant.session):
                return False
        session.attributes[GRANT] = grant
        return True

    async def _grant(self, password: str) -> Grant | None:
        services = services_of(self.context)
        if is_device_token(password):
            return await services.directory.token(hashed(password), now=services.now_ms())
        try:
            return services.tokens.verify(password, services.now_ms())
        except CredentialError:
            return None
