"""What can be wrong with a request that is about a file. They belong to the tree of `errors`.

AccountMissing      UnknownFile         there is no such file, or not for you           404
AccountError        UploadTimeout       it has taken too long                           408
                    FileTooLarge        more bytes than one file may have               413
                    TypeRefused         no files of this type here                      415
                    RangeOutside        the file has no such part                       416
                    HashMismatch        what came is not what was announced             422
                    MalformedUpload     not a form with one file and its hash           400
                    NoRoom              the storage is full                             507
AccountsBusy        TooManyTransfers    of this user at once                            429
                    FilesBusy           of all users at once                            503
"""

from __future__ import annotations

from aldis.bridge.accounts.errors import AccountError, AccountMissing, AccountsBusy


class UnknownFile(AccountMissing):
    """There is no such file for the caller."""


class UploadTimeout(AccountError):
    """The upload stood still, or took too long as a whole."""


class FileTooLarge(AccountError):
    """The file has more bytes than one may have."""


class TypeRefused(AccountError):
    """Files of this media type are not taken."""


class RangeOutside(AccountError):
    """The file has no byte in the range that was asked for; it has `size` of them."""

    size = 0

    def __init__(self, text: str, *, size: int) -> None:
        super().__init__(text)
        self.size = size


class HashMismatch(AccountError):
    """The SHA-256 of what was received is another than the client has said."""


class MalformedUpload(AccountError):
    """The body is not a form with one file and its SHA-256."""


class NoRoom(AccountError):
    """The storage has no room for the file."""


class TooManyTransfers(AccountsBusy):
    """The caller has as many uploads, or downloads, under way as one user may."""


class FilesBusy(AccountsBusy):
    """As many uploads, or downloads, are under way as the server does at once."""
