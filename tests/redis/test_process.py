"""The server that the tests of Redis rest on does what it is told."""

from __future__ import annotations

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.redis_server import PASSWORD, RedisProcess, new_redis


def test_a_restart_keeps_the_port_and_nothing_else(own_redis: RedisProcess) -> None:
    port = own_redis.port
    own_redis.ask("SET", "a", "1")
    own_redis.stop()
    own_redis.start()
    assert (own_redis.port, own_redis.ask("GET", "a")) == (port, None)


@pytest.mark.parametrize("appendfsync", ["always", "everysec"])
def test_an_append_only_file_outlives_a_kill(appendfsync: str) -> None:
    server = new_redis(appendfsync=appendfsync).start()
    server.ask("SET", "a", "1")
    server.kill()
    server.start()
    assert server.ask("GET", "a") == "1"
    server.stop()


def test_a_paused_server_keeps_connections_and_answers_nobody(own_redis: RedisProcess) -> None:
    client = redis.Redis.from_url(own_redis.url, socket_timeout=0.2)
    client.ping()
    own_redis.pause()
    with pytest.raises(redis.TimeoutError):
        client.ping()
    own_redis.resume()
    assert client.ping()
    client.close()


def test_a_server_with_a_password_answers_nobody_else() -> None:
    server = new_redis(password=PASSWORD).start()
    assert redis.Redis.from_url(server.url).ping()
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=server.port, retry=Retry(NoBackoff(), 0)).ping()
    server.stop()
