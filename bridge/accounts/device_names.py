"""What users call their devices. Only for people to read."""

from __future__ import annotations

from sqlalchemy import bindparam, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from aldis.bridge.accounts.database import Database
from aldis.bridge.schema import im_device_name

_OF = select(im_device_name.c.device_id, im_device_name.c.name).where(im_device_name.c.user_id == bindparam("user"))


class DeviceNames:
    """The table `im_device_name`. A device without a row has no name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, user: str) -> dict[str, str]:
        """By device id."""
        async with self._database.read() as connection:
            return {row.device_id: row.name for row in (await connection.execute(_OF, {"user": user})).all()}

    async def change(self, user: str, device: str, name: str) -> None:
        """An empty name takes it away."""

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(
                delete(im_device_name).where(im_device_name.c.user_id == user, im_device_name.c.device_id == device)
            )
            if name:
                row = {"user_id": user, "device_id": device, "name": name}
                await connection.execute(insert(im_device_name), row)

        await self._database.write(work)
