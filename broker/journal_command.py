"""`aldis journal`: what waits in the journal, and what was set aside because it cannot be stored."""

from __future__ import annotations

import argparse
import asyncio
import sys
from datetime import UTC, datetime

from aldis.broker.compose_journal import describe_entry, existing_journal
from aldis.broker.compose_store import StartFailed
from aldis.broker.journal_ports import Journal, JournalUnavailable, Poisoned
from aldis.config.settings import Settings, SettingsError, load

LISTED = 1_000

ACTIONS = {
    "status": "how much waits, and since when",
    "list": "messages that cannot be stored and were set aside",
    "show": "one of them, without what was said",
    "retry": "put it back: it is stored behind what waits, under the number that its sender was told",
    "drop": "give it up for ever",
}


def main(argv: list[str]) -> int:
    """0 done; 1 there is no journal, no such message, or Redis cannot be reached; 2 used or configured wrongly."""
    parser = argparse.ArgumentParser(prog="aldis journal", description="What is accepted and not stored yet.")
    actions = parser.add_subparsers(dest="action", metavar="COMMAND", required=True)
    for action, help in ACTIONS.items():
        command = actions.add_parser(action, help=help)
        command.add_argument("--config", default="node", metavar="PROFILE", help="as for aldis node; default: node")
        if action not in ("status", "list"):
            command.add_argument("number", metavar="NUMBER", help="as `list` has it")
    options = parser.parse_args(argv)
    try:
        settings = load(options.config)
        return asyncio.run(_run(settings, options.action, getattr(options, "number", "")))
    except SettingsError as error:
        print(f"aldis: {error}", file=sys.stderr)
        return 2
    except (StartFailed, JournalUnavailable) as error:
        print(f"aldis: {error}", file=sys.stderr)
        return 1


async def _run(settings: Settings, action: str, number: str) -> int:
    journal = await existing_journal(settings)
    try:
        if action == "status":
            await _status(journal)
            return 0
        if action == "list":
            for one in await journal.poisoned(limit=LISTED):
                print(f"{one.number}  shard {one.shard}  message {one.mid}  {one.reason}")
            return 0
        if action == "show":
            done = await _show(journal, number)
        else:
            done = await (journal.put_back if action == "retry" else journal.drop)(number)
        if not done:
            print(f"aldis: no message {number} was set aside", file=sys.stderr)
        return 0 if done else 1
    finally:
        await journal.close()


async def _status(journal: Journal) -> None:
    lengths = await journal.lengths()
    for shard, one in enumerate(lengths):
        if one.entries:
            since = datetime.fromtimestamp(one.oldest / 1_000, UTC).isoformat(timespec="seconds")
            print(f"shard {shard:<4} {one.entries} messages, {one.bytes} bytes, the oldest accepted at {since}")
    total, aside = sum(one.entries for one in lengths), await journal.poison_length()
    print(f"{total} messages wait in {journal.shards} shards, {aside} are set aside")


async def _show(journal: Journal, number: str) -> bool:
    """False where there is no such message."""
    found = [one for one in await journal.poisoned(limit=LISTED) if one.number == number]
    for one in found:
        _describe(one)
    return bool(found)


def _describe(one: Poisoned) -> None:
    """Everything but what people said."""
    moment = datetime.fromtimestamp(int(one.number.partition("-")[0]) / 1_000, UTC).isoformat(timespec="seconds")
    print(f"number     {one.number}\nset aside  {moment}\nshard      {one.shard}\nmessage    {one.mid}")
    print(f"reason     {one.reason}")
    for name, value in describe_entry(one.data).items():
        print(f"{name:10} {value}")
