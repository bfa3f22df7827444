"""Bots as processes of their own, for tests that kill them. `python bot_programs.py NAME USER DEVICE FILE MQTT API`."""

import itertools
import os
import signal
import sys
from pathlib import Path

from aldis.mobile_client_demo.bot import Bot, Message

PASSWORD = "correct horse battery"


def answering(bot: Bot, file: Path) -> None:
    """Answers twice, and dies at the third message: after the first answer is on its way, before the second."""
    mark = file.with_suffix(".died")

    @bot.on_message
    def answer(message: Message) -> None:
        bot.reply(message, f"first {message.body}").sent.wait(10)
        if message.body == "2" and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        bot.reply(message, f"second {message.body}")

    bot.run()


def sending(bot: Bot, _: Path) -> None:
    """Sends as fast as it can and says what is on disk, until it is killed."""
    bot.start()
    for number in itertools.count():
        bot.send("ada", str(number), ordered=number % 3 == 0)
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()


def main() -> None:
    name, user, device, file, mqtt, api = sys.argv[1:]
    bot = Bot(user, device, file=file, password=PASSWORD, mqtt=mqtt, api=api)
    {"answering": answering, "sending": sending}[name](bot, Path(file))


if __name__ == "__main__":
    main()
