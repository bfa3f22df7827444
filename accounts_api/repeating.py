"""Requests that may come twice: the same Idempotency-Key gets the same answer, and the work is done once.

A client that has lost an answer sends the request again with the same key. The answer is kept sealed: its key comes
from the server's signing key and the client's own, of which only a hash is stored. So a copy of the database gives
nobody a device token that was shown once.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from aldis.bridge.accounts.errors import KeyReused, StillRunning
from aldis.bridge.accounts.repeats import Earlier, Repeats

T = TypeVar("T")

RUNNING = 60_000
"""Milliseconds for which a request that has not been answered holds its key. After that its process is taken for dead,
and the work is done (perhaps again) by whoever asks next."""
_NONCE_BYTES = 12


class Repeating:
    """Does a piece of work once per key and caller, for `lifetime` milliseconds."""

    def __init__(self, repeats: Repeats, signing_key: bytes, lifetime: int, now: Callable[[], int]) -> None:
        self._repeats = repeats
        self._secret = hmac.digest(signing_key, b"aldis: repeated requests, 1", "sha256")
        self._lifetime = lifetime
        self._now = now

    async def once(
        self,
        caller: str,
        call: str,
        key: str | None,
        body: object,
        work: Callable[[], Awaitable[T]],
        kind: type[T],
        *,
        lifetime: int | None = None,
        still: Callable[[T], Awaitable[bool]] | None = None,
    ) -> T:
        """The result of `work`, or, where this key was used before by this caller, the first result, decoded as `kind`;
        for `lifetime` milliseconds, if they are others than usual. A first result that is not `still` good counts as
        none. Without a key the work is simply done. Raises `KeyReused` if the first request was another one,
        `StillRunning` if it is not answered yet, and what `work` raises: then nothing is remembered."""
        if key is None:
            return await work()
        name = self._digest(b"name", caller.encode(), key.encode())
        request = self._digest(b"request", call.encode(), msgspec.json.encode(body))
        now = self._now()
        earlier = await self._repeats.begin(name, request, now=now, expires=now + RUNNING)
        if earlier is not None:
            sealed = _answer(earlier, request)
            known = msgspec.json.decode(self._open(caller, key, sealed), type=kind)
            if still is None or await still(known):
                return known
            earlier = await self._repeats.begin(name, request, now=now, expires=now + RUNNING, instead_of=sealed)
            if earlier is not None:
                # somebody else has noticed it, too, and was faster
                raise _running()
        try:
            result = await work()
        except BaseException:
            await self._repeats.give_up(name)
            raise
        answer = self._seal(caller, key, msgspec.json.encode(result))
        await self._repeats.finish(name, answer, expires=now + (lifetime or self._lifetime))
        return result

    def _digest(self, *parts: bytes) -> bytes:
        # lengths in front, so that parts cannot run into each other
        text = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return hmac.digest(self._secret, text, "sha256")

    def _cipher(self, caller: str, key: str) -> AESGCM:
        return AESGCM(self._digest(b"seal", caller.encode(), key.encode()))

    def _seal(self, caller: str, key: str, answer: bytes) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher(caller, key).encrypt(nonce, answer, None)

    def _open(self, caller: str, key: str, sealed: bytes) -> bytes:
        return self._cipher(caller, key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None)


def _answer(earlier: Earlier, request: bytes) -> bytes:
    if earlier.request_hash != request:
        raise KeyReused("this Idempotency-Key was used for another request")
    if earlier.answer is None:
        raise _running()
    return earlier.answer


def _running() -> StillRunning:
    return StillRunning("the first request with this Idempotency-Key is still being worked on")
