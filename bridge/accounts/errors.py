"""What can be wrong with a request to the accounts side.

    AccountError
    ├── AccountMissing              there is no such thing, or not for you      404
    │   ├── UnknownUser, NoSuchRequest, NotFriends, NotBlocked, UnknownDevice, UnknownToken, UnknownBroadcast
    ├── AccountConflict             it cannot be done as things stand           409
    │   ├── UserTaken, BlockedByYou, LimitReached, StillRunning
    ├── NotWithOneself              the other side must be someone else         400
    ├── KeyReused                   another request had that Idempotency-Key    422
    ├── NotAdmin                    it is for administrators                    403
    ├── AccountRefused              you have not proved who you are             401
    │   ├── WrongLogin, SessionEnded, RefreshReused
    └── AccountsBusy                come back after `retry_after` seconds       429, 503
        ├── TooManyAttempts, HashingBusy, HistoryBehind

The texts are shown to the client: they name no other person's data and no secret. A store that cannot be reached is
`aldis.broker.ports.StoreUnavailable`, a bad token a `aldis.bridge.credentials.CredentialError`.
"""

from __future__ import annotations

from aldis.bridge.accounts.records import Logged


class AccountError(Exception):
    """Base of the tree; the client can do something about every one of them."""


class AccountMissing(AccountError):
    """What the request names does not exist for this caller."""


class UnknownUser(AccountMissing):
    """There is no active user of that name."""


class NoSuchRequest(AccountMissing):
    """That user has not asked to be a friend."""


class NotFriends(AccountMissing):
    """The two are not friends."""


class NotBlocked(AccountMissing):
    """That user was not blocked by the caller."""


class UnknownDevice(AccountMissing):
    """The caller has no such device."""


class UnknownToken(AccountMissing):
    """The caller has no such token."""


class UnknownBroadcast(AccountMissing):
    """There is no broadcast of that id."""


class AccountConflict(AccountError):
    """The request is well formed, but not possible now."""


class UserTaken(AccountConflict):
    """The user id belongs to somebody."""


class BlockedByYou(AccountConflict):
    """The caller has blocked that user and must unblock first."""


class LimitReached(AccountConflict):
    """One more would be too many; the text says of what."""


class StillRunning(AccountConflict):
    """The first request with this Idempotency-Key is not answered yet."""


class KeyReused(AccountError):
    """The Idempotency-Key came with another request before."""


class NotAdmin(AccountError):
    """The caller is known, but is no administrator."""


class NotWithOneself(AccountError):
    """The request names its own sender as the other side."""


class AccountRefused(AccountError):
    """The caller is not who is needed for this."""


class WrongLogin(AccountRefused):
    """No such user or not the password; which of the two is not said."""


class SessionEnded(AccountRefused):
    """The login session was logged out, revoked or has expired."""


class RefreshReused(AccountRefused):
    """A refresh token was used twice. Somebody may have stolen it, so the session has been revoked."""

    def __init__(self, text: str, *, user: str, session: str, logged: Logged) -> None:
        super().__init__(text)
        self.user = user
        self.session = session
        self.logged = logged


class AccountsBusy(AccountError):
    """The server protects itself; nothing was done. `retry_after` is in whole seconds."""

    def __init__(self, text: str, *, retry_after: int) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class TooManyAttempts(AccountsBusy):
    """Too many logins or registrations, by this user or from this address."""


class HashingBusy(AccountsBusy):
    """Too many passwords wait to be checked."""


class HistoryBehind(AccountsBusy):
    """The history has much to catch up with; each request brings it further."""
