"""Devices that seal keys over the REST API, with the demo's own code, written from docs/encryption.md alone."""

from __future__ import annotations

import base64
from typing import Any

import httpx

from aldis.mobile_client_demo.sealing import DevicePair, Place, check_of, unwrap, wrap
from tests.accounts.world import Caller, World


def text(value: bytes) -> str:
    return base64.b64encode(value).decode()


class Device(Caller):
    """One logged-in device with its key pair."""

    def __init__(self, world: World, user: str, device: str, tokens: dict[str, Any]) -> None:
        super().__init__(world, user, tokens)
        self.device, self.pair = device, DevicePair()

    async def call(self, method: str, path: str, body: Any = None) -> httpx.Response:
        return await self.world.client.request(method, path, json=body, headers=self.headers)

    async def register(self) -> None:
        answer = await self.call("PUT", "/v1/device-key", {"public_key": text(self.pair.public)})
        assert answer.status_code == 200, answer.text
        assert answer.json() == {"device_id": self.device, "public_key": text(self.pair.public)}

    async def devices(self, peer: str) -> list[dict[str, Any]]:
        answer = await self.get(f"/v1/relations/{peer}/devices")
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def wrapped(self, peer: str, version: int, key: bytes) -> list[dict[str, str]]:
        """The key for every device that the server names."""
        return [self.wrap_for(one, peer, version, key) for one in await self.devices(peer)]

    def wrap_for(self, one: dict[str, Any], peer: str, version: int, key: bytes) -> dict[str, str]:
        place = Place(version, self.user, self.device, one["user_id"], one["device_id"], (self.user, peer))
        sealed = wrap(key, place, self.pair, base64.b64decode(one["public_key"]))
        return {name: one[name] for name in ("user_id", "device_id", "public_key")} | {"wrapped": text(sealed)}

    async def make(self, peer: str, version: int, key: bytes, keys: Any = None) -> httpx.Response:
        check = text(check_of(key, (self.user, peer), version))
        keys = await self.wrapped(peer, version, key) if keys is None else keys
        return await self.call(
            "POST", f"/v1/relations/{peer}/sealed-keys", {"version": version, "check": check, "keys": keys}
        )

    async def add(self, peer: str, version: int, keys: Any) -> httpx.Response:
        return await self.call("PUT", f"/v1/relations/{peer}/sealed-keys/{version}", {"keys": keys})

    async def version(self, peer: str, version: int) -> dict[str, Any]:
        answer = await self.get(f"/v1/relations/{peer}/keys?version={version}")
        assert answer.status_code == 200, answer.text
        return answer.json()["keys"][0]

    async def opened(self, peer: str, version: int) -> bytes:
        found = await self.version(peer, version)
        by = found["by"]
        place = Place(version, by["user_id"], by["device_id"], self.user, self.device, (self.user, peer))
        key = unwrap(base64.b64decode(found["wrapped"]), place, self.pair, base64.b64decode(by["public_key"]))
        assert base64.b64decode(found["check"]) == check_of(key, (self.user, peer), version)
        return key


async def device(world: World, user: str, name: str) -> Device:
    return Device(world, user, name, await world.tokens(user, name))
