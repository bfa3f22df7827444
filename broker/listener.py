"""One listening address and how many connections it may have."""

from __future__ import annotations

import os


class Listener:
    """Counts the connections of one listener. One too many is closed at once: nobody waits for a place unseen."""

    def __init__(self, name: str, max_connections: int) -> None:
        self.name = name
        self.max_connections = max_connections
        self.count = 0

    def acquire(self) -> bool:
        """Takes a place; false if there is none."""
        if self.count >= self.max_connections:
            return False
        self.count += 1
        return True

    def release(self) -> None:
        self.count -= 1


def cannot_listen(address: str, error: OSError) -> str:
    """One line for whoever starts the server: the address and why it cannot be had."""
    if error.errno is not None and error.errno > 0:
        return f"cannot listen on {address}: {os.strerror(error.errno)}"
    return f"cannot listen on {address}: {error.strerror or error}"  # a name that does not resolve
