"""Answers every text with itself, encrypted if it was, once, whatever happens in between."""

from __future__ import annotations

import logging

from aldis.mobile_client_demo.bot import Bot, Message
from aldis.mobile_client_demo.bot.examples.arguments import access, parser


def main() -> None:
    logging.basicConfig(level=logging.INFO)
    bot = Bot(**access(parser("Echo bot.").parse_args()))

    @bot.on_message(type="text")
    def echo(message: Message) -> None:
        if message.problem:
            bot.reply(message, "I cannot read that.", encrypted=False)
        else:
            bot.reply(message, message.body)
        bot.read(message)

    bot.run()


if __name__ == "__main__":
    main()
