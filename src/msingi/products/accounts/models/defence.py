"""What keeps guessers out: how often somebody was wrong in a row, and the browsers that were let in before."""

from datetime import datetime

from msingi.kit.db import Collection, Doc, Index

STREAK_KEPT = 90 * 24 * 3600  # seconds after the last wrong password
DEVICE_KEPT = 400 * 24 * 3600  # seconds after the last sign-in: as long as browsers keep a cookie


class Door(Doc, kw_only=True):
    """Wrong passwords in a row at one door. Its id is the mark of an e-mail address, anybody's or nobody's, or the id
    of a known device, which has a door of its own."""

    failures: int
    account: str = ""  # whose door it is, if it is anybody's


class KnownDevice(Doc, kw_only=True):
    """A browser, or a program that keeps cookies, in which somebody signed in; of its secret only SHA-256 is kept."""

    account: str
    secret: bytes
    like: str  # what stands for its program and its address, where these are compared
    shown: bool = False  # whether the cookie ever came back: programs without a memory never bring it
    seen_at: datetime


doors = Collection(Door, "doors", indexes=["account", Index("updated_at", expires_after=STREAK_KEPT)])
known_devices = Collection(
    KnownDevice,
    "known_devices",
    indexes=["account secret", "account like", Index("seen_at", expires_after=DEVICE_KEPT)],
)
