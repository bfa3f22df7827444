"""Tokens that must not pass: the module that the connector's plugins import."""

from __future__ import annotations

import base64
import json
import warnings
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from aldis.bridge.credentials import (
    AccessTokens,
    CredentialError,
    ExpiredCredential,
    MalformedCredential,
    RefreshTokens,
    WrongKind,
    hashed,
    is_device_token,
    new_device_token,
)
from aldis.broker.ports import Grant
from tests.accounts.world import SIGNING_KEY, World, assert_problem

NOW = 1_800_000_000_000
TOKENS = AccessTokens(SIGNING_KEY)


def good(**changes: Any) -> dict[str, Any]:
    claims = {
        "iss": "aldis",
        "aud": "aldis",
        "sub": "alice",
        "dev": "phone",
        "sid": "s1",
        "iat": 1,
        "exp": NOW,
        "jti": "j",
    }
    return claims | changes


def signed(claims: dict[str, Any], key: Any = SIGNING_KEY, algorithm: str = "HS256", typ: str | None = "at+jwt") -> str:
    with warnings.catch_warnings():
        # PyJWT finds our key short for HS384 and HS512; the forger does not mind.
        warnings.simplefilter("ignore", jwt.InsecureKeyLengthWarning)
        return jwt.encode(claims, key, algorithm=algorithm, headers={"typ": typ})


def signed_raw(claims: dict[str, Any]) -> str:
    """Past PyJWT's own checks at signing."""
    return jwt.api_jws.encode(json.dumps(claims).encode(), SIGNING_KEY, "HS256", headers={"typ": "at+jwt"})


def without(claim: str) -> dict[str, Any]:
    return {name: value for name, value in good().items() if name != claim}


def unsigned(header: dict[str, Any], claims: dict[str, Any]) -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in (header, claims)]
    return ".".join([*parts, ""])


def test_a_token_proves_user_device_and_session_until_it_expires() -> None:
    token = TOKENS.issue(user="alice", device="phöne/1", session="s1", now_ms=NOW, lifetime=60.0)
    assert TOKENS.verify(token, NOW) == Grant(user="alice", device="phöne/1", expires=NOW + 60_000, session="s1")
    assert TOKENS.verify(token, NOW + 59_999).user == "alice"
    with pytest.raises(ExpiredCredential):
        TOKENS.verify(token, NOW + 60_000)
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims.keys() == {"iss", "aud", "sub", "dev", "sid", "iat", "exp", "jti"}


def test_two_tokens_are_never_the_same() -> None:
    tokens = {TOKENS.issue(user="a", device="b", session="s", now_ms=NOW, lifetime=60) for _ in range(50)}
    assert len(tokens) == 50


RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
RSA_PUBLIC = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

FORGED = {
    "none": unsigned({"alg": "none", "typ": "at+jwt"}, good()),
    "None": unsigned({"alg": "None", "typ": "at+jwt"}, good()),
    "no algorithm": unsigned({"typ": "at+jwt"}, good()),
    "HS512 with our key": signed(good(), SIGNING_KEY, "HS512"),
    "HS384 with our key": signed(good(), SIGNING_KEY, "HS384"),
    "RS256": signed(good(), RSA, "RS256"),
    "another key": signed(good(), b"x" * 32),
    "empty": "",
    "dots": "..",
    "words": "not a token",
    "not ASCII": "ä.ö.ü",
    "surrogate": "\ud800.\ud800.\ud800",
    "long": "a" * 5_000,
    **{f"without {claim}": signed(without(claim)) for claim in good() if claim not in ("aud", "iss")},
    "numeric user": signed_raw(good(sub=7)),
    "device not text": signed(good(dev=7)),
    "session not text": signed(good(sid=None)),
    "expiry not a number": signed_raw(good(exp="never")),
    "claims not an object": jwt.api_jws.encode(b"[]", SIGNING_KEY, "HS256", headers={"typ": "at+jwt"}),
    "signature cut off": signed(good()).rsplit(".", 1)[0] + ".",
    "expiry a fraction": signed(good(exp=NOW / 7)),
    "expiry true": signed(good(exp=True)),
}


@pytest.mark.parametrize("token", FORGED.values(), ids=FORGED.keys())
def test_forged_tokens(token: str) -> None:
    with pytest.raises(MalformedCredential):
        TOKENS.verify(token, 1_000)


@pytest.mark.parametrize(
    "token",
    [
        signed(good(), typ="JWT"),
        signed(good(), typ=None),
        signed(good(), typ="rt+jwt"),
        signed(good(aud="other")),
        signed(good(aud=["other"])),
        signed(good(iss="other")),
        RefreshTokens(SIGNING_KEY).issue("s1"),
        new_device_token(),
    ],
    ids=["plain", "no type", "refresh type", "audience", "audiences", "issuer", "refresh token", "device token"],
)
def test_tokens_made_for_something_else(token: str) -> None:
    with pytest.raises(WrongKind):
        TOKENS.verify(token, 1_000)


def test_the_control_of_the_forgeries_is_good() -> None:
    assert TOKENS.verify(signed(good()), 1_000).user == "alice"


def test_every_single_bit_counts() -> None:
    token = TOKENS.issue(user="alice", device="phone", session="s1", now_ms=NOW, lifetime=60)
    for position in range(len(token)):
        letter = "A" if token[position] != "A" else "B"
        changed = token[:position] + letter + token[position + 1 :]
        try:
            grant = TOKENS.verify(changed, NOW)
        except CredentialError:
            continue
        # The last letter of a base64 part has bits that decode to nothing.
        assert grant == TOKENS.verify(token, NOW)
        assert token[position + 1 : position + 2] in ("", ".")


def test_short_keys_are_refused() -> None:
    with pytest.raises(ValueError):
        AccessTokens(b"short")


def test_refresh_tokens_know_their_session() -> None:
    tokens = RefreshTokens(SIGNING_KEY)
    one, two = tokens.issue("session.with.dots"), tokens.issue("session.with.dots")
    assert one != two
    assert tokens.session_of(one) == tokens.session_of(two) == "session.with.dots"
    for bad in [
        one[:-1],
        one + "A",
        one + "=",
        one[:20] + "A" + one[21:],
        "",
        "aldis_rt_",
        "aldis_rt_A",
        "aldis_rt_\ud800",
    ]:
        if bad != one:
            with pytest.raises(MalformedCredential):
                tokens.session_of(bad)
    with pytest.raises(MalformedCredential):
        RefreshTokens(b"y" * 32).session_of(one)


def test_device_tokens_are_recognised_and_hashed() -> None:
    token = new_device_token()
    assert is_device_token(token)
    assert token != new_device_token()
    assert len(base64.urlsafe_b64decode(token.removeprefix("aldis_dt_") + "=")) == 32
    assert len(hashed(token)) == 32
    assert not is_device_token(TOKENS.issue(user="a", device="b", session="s", now_ms=NOW, lifetime=60))
    assert not is_device_token("aldis_dt_" + "x" * 5_000)
    assert len(hashed("\ud800")) == 32


async def test_headers_that_prove_nothing(world: World) -> None:
    assert_problem(await world.client.get("/v1/relations"), 401, "invalid-token")
    forged = [f"Bearer {FORGED[name]}" for name in ("none", "HS512 with our key", "another key")]
    for header in ["", "Bearer", "Basic YTpi", "bearer x", "Bearer a b", "Token x", *forged]:
        answer = await world.client.get("/v1/relations", headers={"Authorization": header})
        assert_problem(answer, 401, "invalid-token")


async def test_the_scheme_is_written_in_any_case(world: World) -> None:
    [alice] = await world.enter("alice")
    header = {"Authorization": f"bEARER   {alice.tokens['access_token']}"}
    assert (await world.client.get("/v1/relations", headers=header)).status_code == 200


async def test_a_signed_token_of_no_session_is_not_enough(world: World) -> None:
    await world.register("alice")
    token = TOKENS.issue(user="alice", device="phone", session="invented", now_ms=world.now(), lifetime=60)
    answer = await world.client.get("/v1/relations", headers={"Authorization": f"Bearer {token}"})
    assert_problem(answer, 401, "session-ended")


async def test_only_access_tokens_open_the_api(world: World) -> None:
    [alice] = await world.enter("alice")
    device_token = (await alice.post("/v1/tokens", {"device_id": "esp", "name": "sensor"})).json()["token"]
    for token in [alice.tokens["refresh_token"], device_token]:
        answer = await world.client.get("/v1/relations", headers={"Authorization": f"Bearer {token}"})
        assert_problem(answer, 401, "invalid-token")
