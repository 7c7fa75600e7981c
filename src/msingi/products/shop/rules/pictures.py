"""Decisions and problems about pictures."""

from datetime import timedelta

from msingi.kit.errors import Conflict, Invalid

UNUSED_FOR = timedelta(days=1)  # after which a picture that no product shows is removed


class PictureInUse(Conflict):
    """A product shows this picture; take it off there first."""


class UnknownPicture(Invalid):
    """There is no picture `{file}`; send it in first (`POST /v1/shop/pictures`)."""
