"""`python -m tests.faults`, or `make faults`: faults drawn by a seed, one after another and together, as long as asked.

Each round: load, one to three faults, rest, the whole check. It stops at the first violation, with the history kept.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path

from tests.faults import world
from tests.faults.faults import FAULTS, combined, possible
from tests.faults.runner import Play, Violation

WORLDS = {
    "embedded": world.embedded,
    "node": world.single_node,
    "cluster": world.two_nodes,
    "journal": partial(world.two_nodes, journal=True),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="make faults ARGS=…", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=60.0, help="of rounds (default 60)")
    parser.add_argument("--seed", type=int, default=None, help="of everything that is drawn (default: by chance)")
    parser.add_argument("--world", choices=WORLDS, default="cluster", help="what is hurt (default cluster)")
    parser.add_argument("--rate", type=float, default=60.0, help="messages a second, about (default 60)")
    parser.add_argument("--quarrels", type=int, default=3, help="friendships that end, and devices kicked (default 3)")
    parser.add_argument("--shipped", action="store_true", help="with the time-outs and leases that Aldis ships with")
    parser.add_argument("--only", action="append", metavar="FAULT", help="of these faults alone; may be repeated")
    parser.add_argument("--keep", type=Path, default=None, metavar="DIR", help="where histories and logs stay")
    parser.add_argument("--list", action="store_true", help="name the faults, and go")
    options = parser.parse_args()
    if options.list:
        print("\n".join(FAULTS))
        return 0
    unknown = set(options.only or ()) - FAULTS.keys()
    if unknown:
        parser.error(f"there is no fault {', '.join(sorted(unknown))}: see --list")
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1, 1_000_000)
    folder = options.keep or Path(tempfile.mkdtemp(prefix="aldis-faults-"))
    print(f"seed {seed}, histories and logs in {folder}", flush=True)
    with WORLDS[options.world](folder, quick=not options.shipped) as stage:
        play = Play(stage, seed, patience=120 if options.shipped else 30, rate=options.rate, quarrels=options.quarrels)
        try:
            play.begin()
            _rounds(play, options.minutes * 60, options.only)
        except Violation as violation:
            print(f'VIOLATION\n{violation}\nreplay: make faults ARGS="--seed {seed}"')
            return 1
        finally:
            play.end()
            print(play.summary())
    print("every invariant has held")
    return 0


def _rounds(play: Play, seconds: float, only: list[str] | None) -> None:
    """One line for each round."""
    begun = time.monotonic()
    counts: Counter[str] = Counter()
    drawn = random.Random(play.seed)
    number = 0
    while time.monotonic() - begun < seconds:
        number += 1
        size = drawn.choice((1, 1, 2, 3))
        if only:
            faults = [FAULTS[drawn.choice(only)]]
        else:
            # every fault has its turn before any has another
            faults = combined(play.world, drawn, size, counts)
        counts.update(one.name for one in faults)
        names = " + ".join(one.name for one in faults)
        before = play.totals["messages"]
        started = time.monotonic()
        with play.playing(5.0 + drawn.random() * 10.0, quarrel=number % 8 == 3):
            play.inflict(faults)
        said = play.totals["messages"] - before
        took = time.monotonic() - started
        print(f"{started - begun:6.0f} s  round {number:4}  {took:5.1f} s {said:6} messages  {names}", flush=True)
    played = {one.name for one in possible(play.world)} - counts.keys()
    if played and not only:
        print(f"not played: {', '.join(sorted(played))}")


if __name__ == "__main__":
    sys.exit(main())
