"""Sends each line of the standard input to somebody: `journalctl -f -p err | python -m … --to alice`."""

from __future__ import annotations

import sys

from aldis.mobile_client_demo.bot import Bot, SendFailed
from aldis.mobile_client_demo.bot.examples.arguments import access, parser


def main() -> int:
    arguments = parser("Alert bot.")
    arguments.add_argument("--to", required=True, metavar="USER")
    arguments.add_argument("--patience", type=float, default=30.0, metavar="SECONDS", help="to wait for the last one")
    given = arguments.parse_args()
    with Bot(**access(given)) as bot:
        handle = None
        for line in sys.stdin:
            if line.strip():
                handle = bot.send(given.to, line.rstrip("\n"), type="alert")
        try:
            if handle is not None:
                handle.sent.wait(given.patience)
        except SendFailed as failure:
            print(failure, file=sys.stderr)
            return 1
        except TimeoutError:
            print(f"{len(bot.waiting())} wait in {access(given)['file']} for the next run", file=sys.stderr)
            return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
