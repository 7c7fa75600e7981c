"""Passwords that were found in breaches, as Bloom filters: a few bits for each, from which no password can be read.

The house brings a small list, of the 60,000 most frequent ones that are long enough; `msingi breaches build` makes a
larger one of any text file, and MSINGI_BREACHED_PASSWORDS names it (docs/decisions/0009). A filter never overlooks what
it was made of, and takes one good password in a hundred thousand for a bad one.
"""

import math
import mmap
import struct
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from zipfile import ZipFile, is_zipfile

from msgspec import Struct

OWN = Path(__file__).with_name("breached.bloom")
HEAD = struct.Struct(">4sIQQ")  # mark, hashes, bits, entries
MARK = b"MBF1"
CHANCE = 1e-5  # that a password which is not on the list is taken for one that is
LONGEST = 128


class NoFilter(ValueError):
    """This file is no list that `msingi breaches build` made."""


class Filter(Struct, frozen=True):
    """What was put in is in; what was not is not, but for one in 1/CHANCE."""

    hashes: int
    bits: int
    entries: int
    body: bytes | bytearray | mmap.mmap

    def __contains__(self, text: str) -> bool:
        start, step = _digest(text)
        for turn in range(self.hashes):
            place = (start + turn * step) % self.bits
            if not self.body[HEAD.size + (place >> 3)] & (1 << (place & 7)):
                return False
        return True


def folded(text: str) -> str:
    """A password in the one spelling that is compared."""
    return unicodedata.normalize("NFKC", text).casefold()


@lru_cache(maxsize=8)
def opened(path: Path) -> Filter:
    """A filter in a file, whose pages all processes share. Raises NoFilter, OSError."""
    with path.open("rb") as file:
        head = file.read(HEAD.size)
        if len(head) < HEAD.size or not head.startswith(MARK):
            raise NoFilter(f"{path} is no list that `msingi breaches build` made")
        _, hashes, bits, entries = HEAD.unpack(head)
        body = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if not hashes or not bits or len(body) != HEAD.size + math.ceil(bits / 8):
        raise NoFilter(f"{path} is cut off")
    return Filter(hashes, bits, entries, body)


# ---- making one


def build(source: Path, to: Path, *, shortest: int = 15, first: int | None = None) -> int:
    """Make a filter of a list with a password a line (a text file, or a zip with one in it); returns how many it holds.

    Only those of at least `shortest` characters are taken, and of these the `first` so many. The file appears whole or
    not at all.
    """
    entries = sum(1 for _ in islice(_passwords(source, shortest), first))
    if not entries:
        raise ValueError(f"{source} holds no password of {shortest} characters or more")
    bits = math.ceil(-entries * math.log(CHANCE) / math.log(2) ** 2)
    hashes = round(bits / entries * math.log(2))
    body = bytearray(HEAD.pack(MARK, hashes, bits, entries)) + bytearray(math.ceil(bits / 8))
    for text in islice(_passwords(source, shortest), first):
        start, step = _digest(text)
        for turn in range(hashes):
            place = (start + turn * step) % bits
            body[HEAD.size + (place >> 3)] |= 1 << (place & 7)
    unfinished = to.with_name(f"{to.name}.unfinished")
    unfinished.write_bytes(body)
    unfinished.replace(to)
    return entries


def _passwords(source: Path, shortest: int) -> Iterator[str]:
    """The passwords of a list that are long enough, as they are compared. What is not UTF-8 is read as Latin-1."""
    for raw in _lines(source):
        if len(raw) < shortest:  # a character is a byte at least
            continue
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            text = raw.decode("latin-1")
        text = text.rstrip("\r\n")
        if shortest <= len(text) <= LONGEST:
            yield folded(text)


def _lines(source: Path) -> Iterator[bytes]:
    if not is_zipfile(source):
        with source.open("rb") as file:
            yield from file
        return
    with ZipFile(source) as archive, archive.open(archive.namelist()[0]) as file:
        yield from file


def _digest(text: str) -> tuple[int, int]:
    """Two numbers of which all places of a text follow (Kirsch and Mitzenmacher, 2006)."""
    raw = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, person=MARK).digest()
    return int.from_bytes(raw[:8], "big"), int.from_bytes(raw[8:], "big") | 1
