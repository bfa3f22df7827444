"""Every error of the API as an RFC 9457 problem document, decided in one place."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.openapi.datastructures import ResponseSpec

from aldis.accounts_api.bodies import Problem
from aldis.accounts_api.operations import NotReady
from aldis.bridge.accounts import errors, file_errors, key_errors
from aldis.bridge.credentials import CredentialError
from aldis.broker.ports import StoreUnavailable

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
UNREAD = "aldis.unread"
"""Key in the scope of a request whose body will not be read to its end: nothing can follow on that connection."""
RETRY_AFTER = 2
"""Seconds a client is asked to wait for a store that does not answer."""

TYPES: dict[type[Exception], tuple[int, str, str]] = {
    errors.UnknownUser: (404, "unknown-user", "No such user"),
    errors.NoSuchRequest: (404, "no-such-request", "No such friend request"),
    errors.NotFriends: (404, "not-friends", "Not friends"),
    errors.NotBlocked: (404, "not-blocked", "Not blocked"),
    errors.UnknownDevice: (404, "unknown-device", "No such device"),
    errors.UnknownToken: (404, "unknown-token", "No such token"),
    errors.UnknownBroadcast: (404, "unknown-broadcast", "No such broadcast"),
    errors.AccountMissing: (404, "not-found", "Not found"),
    errors.UserTaken: (409, "user-taken", "User id taken"),
    errors.BlockedByYou: (409, "blocked-by-you", "Blocked by you"),
    errors.LimitReached: (409, "limit-reached", "Limit reached"),
    key_errors.UnknownVersion: (404, "unknown-version", "No such key version"),
    key_errors.RelationSealed: (409, "relation-sealed", "Relation is sealed"),
    key_errors.NotSealed: (409, "not-sealed", "Relation is not sealed"),
    key_errors.VersionTaken: (409, "version-taken", "Not the next key version"),
    key_errors.DevicesChanged: (409, "devices-changed", "Devices have changed"),
    key_errors.NoDeviceKey: (409, "no-device-key", "Device has no public key"),
    errors.StillRunning: (409, "still-running", "Still running"),
    errors.AccountConflict: (409, "conflict", "Conflict"),
    errors.NotWithOneself: (400, "not-with-oneself", "Not with oneself"),
    errors.KeyReused: (422, "idempotency-key-reused", "Idempotency-Key used for another request"),
    errors.NotAdmin: (403, "not-admin", "Not an administrator"),
    errors.WrongLogin: (401, "wrong-login", "Wrong user or password"),
    errors.SessionEnded: (401, "session-ended", "Login has ended"),
    errors.RefreshReused: (401, "refresh-reused", "Refresh token used twice"),
    errors.AccountRefused: (401, "unauthorised", "Not authorised"),
    CredentialError: (401, "invalid-token", "Invalid token"),
    errors.HistoryBehind: (503, "history-behind", "History not ready"),
    file_errors.UnknownFile: (404, "unknown-file", "No such file"),
    file_errors.UploadTimeout: (408, "upload-timeout", "Upload took too long"),
    file_errors.FileTooLarge: (413, "too-large", "Request too large"),
    file_errors.TypeRefused: (415, "type-refused", "File type refused"),
    file_errors.RangeOutside: (416, "range-not-satisfiable", "Range not satisfiable"),
    file_errors.HashMismatch: (422, "hash-mismatch", "Hash does not match"),
    file_errors.MalformedUpload: (400, "invalid-request", "Invalid request"),
    file_errors.NoRoom: (507, "storage-full", "Storage full"),
    file_errors.TooManyTransfers: (429, "too-many-transfers", "Too many transfers"),
    file_errors.FilesBusy: (503, "files-busy", "Too many transfers on the server"),
    errors.HashingBusy: (503, "busy", "Server busy"),
    errors.AccountsBusy: (429, "too-many-attempts", "Too many attempts"),
    StoreUnavailable: (503, "unavailable", "Store unavailable"),
}
"""Domain error to (status, type, title); a class without a row has its base's."""

STATUSES = {
    400: ("invalid-request", "Invalid request"),
    401: ("invalid-token", "Invalid token"),
    403: ("forbidden", "Forbidden"),
    404: ("not-found", "Not found"),
    405: ("method-not-allowed", "Method not allowed"),
    408: ("timeout", "Request took too long"),
    413: ("too-large", "Request too large"),
    415: ("unsupported-media-type", "Unsupported media type"),
}
"""What Litestar itself refuses: HTTP status to (type, title)."""

_WORDS = {
    400: "The request is not as described here",
    401: "The caller has not proved who it is",
    403: "It is not for this caller",
    404: "There is no such thing for this caller",
    409: "It cannot be done as things stand",
    408: "The body did not arrive in time",
    413: "The body is too large",
    415: "The body, or the file, is of a type that is not taken here",
    422: "The Idempotency-Key was used for another request",
    429: "Too many attempts; see Retry-After",
    503: "The server or its store cannot do it now; see Retry-After",
    416: "The file has no such part",
    507: "There is no room for it",
}


def problem_of(error: Exception) -> tuple[Problem, dict[str, str]]:
    """The document and the headers for an error. What is not in the tree is a 500 that tells nothing."""
    headers: dict[str, str] = {}
    for base in type(error).__mro__:
        if base in TYPES:
            status, slug, title = TYPES[base]
            break
    else:
        if not isinstance(error, HTTPException) or error.status_code >= 500:
            return _problem(500, "internal", "Internal error", "something went wrong here; it has been logged"), {}
        slug, title = STATUSES.get(error.status_code, ("http", "Error"))
        return _problem(error.status_code, slug, title, _detail(error)), dict(error.headers or {})
    detail = str(error)
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, file_errors.RangeOutside):
        headers["Content-Range"] = f"bytes */{error.size}"
    if isinstance(error, errors.AccountsBusy):
        headers["Retry-After"] = str(error.retry_after)
    elif isinstance(error, StoreUnavailable):
        headers["Retry-After"] = str(RETRY_AFTER)
        if not isinstance(error, NotReady):
            detail = "the store does not answer; nothing is lost, try again"
    return _problem(status, slug, title, detail), headers


def answer_problem(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Litestar's exception handler for everything."""
    problem, headers = problem_of(error)
    if problem.status == 500:
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    if request.scope.get(UNREAD):
        headers["Connection"] = "close"
    return Response(msgspec.json.encode(problem), status_code=problem.status, headers=headers, media_type=MEDIA_TYPE)


def declared(*statuses: int) -> dict[int, ResponseSpec]:
    """The problem responses of a call for its OpenAPI description."""
    return {
        status: ResponseSpec(Problem, generate_examples=False, description=_WORDS[status], media_type=MEDIA_TYPE)
        for status in sorted(statuses)
    }


def _problem(status: int, slug: str, title: str, detail: str) -> Problem:
    return Problem(type=f"urn:aldis:problem:{slug}", title=title, status=status, detail=detail)


def _detail(error: HTTPException) -> str:
    """Litestar's words, or the fields it complains about; never their values."""
    complaints = []
    for entry in error.extra if isinstance(error.extra, list) else []:
        if isinstance(entry, dict):
            complaints.append(": ".join(str(entry[key]) for key in ("key", "message") if entry.get(key)))
    return "; ".join(complaints) or error.detail
