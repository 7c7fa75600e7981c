"""Pictures of goods: what was made of one that was sent in, kept in kit.files under the names that are noted here."""

from datetime import datetime
from typing import Literal

from msgspec import field

from msingi.kit.clock import now
from msingi.kit.db import Collection, Doc, Index


class KeptPicture(Doc):
    """Its id is the hash of what was sent in, so that the same picture is one, whoever sends it, however often.

    While it is `coming` its files are being kept, while it is `going` they are being removed. All its files are its
    own. `used_at` is when somebody last sent it in or put it on a product.
    """

    file: str  # the largest, which `width` and `height` are of
    width: int
    height: int
    sizes: dict[str, str]  # narrower ones, by their width
    jpeg: str  # for who reads no WebP
    by: str
    stage: Literal["coming", "there", "going"] = "coming"
    used_at: datetime = field(default_factory=now)

    @property
    def files(self) -> list[str]:
        return [self.file, *self.sizes.values(), self.jpeg]


pictures = Collection(KeptPicture, "pictures", indexes=[Index("file", unique=True), "used_at"])
