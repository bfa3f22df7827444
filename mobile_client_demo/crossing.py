"""More scenes for a server of several nodes: people who talk across them, and devices that change them.

The story of `scenes` is played before, with Alice's phone, Bob's laptop and Alice's tablet on different nodes.
"""

from __future__ import annotations

from aldis.mobile_client_demo.client import Client
from aldis.mobile_client_demo.journal import Missing
from aldis.mobile_client_demo.promises import expect
from aldis.mobile_client_demo.stage import Stage

PROMISES = {
    "move": "a device that comes back at another node goes on where it stopped, and its MQTT session comes along",
    "takeover": "a device that shows up at another node is served there at once, and its old connection ends",
    "elsewhere": "the same id published again at another node is the same message, and seq counts on there",
    "revoked": "a device that is taken away is disconnected at whichever node it is, and stays out of all",
}


def comes_back_elsewhere(stage: Stage) -> None:
    phone, laptop = stage.online()
    since = len(laptop.items)
    with stage.checks.judging("move"):
        with stage.meanwhile("On the train", stage.messages) as messages:
            _first_of(laptop, since)
            laptop.cut()
            stage.send_elsewhere(laptop)
            laptop.connect()
        stage.arrive(laptop, messages, since=since)
        stage.delivered(phone, messages)
        expect(laptop.resumed, "the MQTT session did not come along")


def shows_up_elsewhere(stage: Stage) -> None:
    phone, laptop = stage.online()
    since = len(laptop.items)
    with stage.checks.judging("takeover"):
        with stage.meanwhile("From WiFi to radio", stage.messages) as messages:
            _first_of(laptop, since)
            stage.send_elsewhere(laptop)
            laptop.roam()
        stage.arrive(laptop, messages, since=since)
        stage.delivered(phone, messages)


def _first_of(client: Client, since: int) -> None:
    client.wait(lambda: len(client.items) > since, f"nothing reached {client.name}")


def sends_again_elsewhere(stage: Stage) -> None:
    phone, laptop = stage.online()
    since = len(laptop.items)
    with stage.checks.judging("elsewhere"):
        message = stage.send(phone, laptop.user, "Did you get this?")
        stage.answered(phone, [message])
        phone.disconnect()
        stage.send_elsewhere(phone)
        phone.connect()
        phone.publish(message)
        phone.wait(lambda: len(message.answers) == 2, "no answer to the message repeated at another node")
        mids = [answer.mid for answer in message.answers]
        expect(len(set(mids)) == 1 and mids[0] > 0, f"one id was answered with the mids {mids}")
        following = stage.send(phone, laptop.user, "I am somewhere else now")
        stage.arrive(laptop, [message, following], since=since)
        stage.delivered(phone, [message, following])


def tablet_is_taken_away(stage: Stage) -> None:
    phone, _ = stage.online()
    tablet = stage.clients.get("tablet")
    with stage.checks.judging("revoked"):
        expect(tablet is not None, "there is no tablet")
        assert tablet is not None
        if not tablet.online:
            tablet.connect()
        stage.say(stage.alice, "REST   takes her tablet away")
        stage.rest.remove_device(phone.login, "tablet")
        tablet.wait(lambda: not tablet.online, f"{tablet.name} is still connected")
        for _ in stage.addresses:
            stage.send_elsewhere(tablet)
            try:
                tablet.connect()
            except Missing:
                continue
            expect(False, f"{tablet.name} could connect again")


SCENES = (
    ("Bob's laptop comes back at another node", comes_back_elsewhere),
    ("Bob's laptop shows up at another node", shows_up_elsewhere),
    ("Alice sends it again, at another node", sends_again_elsewhere),
    ("Alice's tablet is taken away", tablet_is_taken_away),
)
