"""The payload of a chat publish, read once for all stages."""

from __future__ import annotations

from aldis.broker.core.envelope import EnvelopeError, Reason, parse_chat
from aldis.broker.pipeline import Publication
from aldis.config.settings import Limits


def read_envelope(publication: Publication, limits: Limits) -> bool:
    """Sets `publication.envelope`; false if the payload was refused, and the sender told why."""
    payload = publication.message.payload
    if len(payload) > limits.max_message_size:
        publication.reject(Reason.TOO_LARGE)
        return False
    try:
        publication.envelope = parse_chat(payload)
    except EnvelopeError as error:
        publication.reject(error.reason, error.id)
        return False
    return True
