"""Decisions about guessing: how many wrong passwords are too many, and what is said then, the same to everybody."""

from msgspec import Struct

from msingi.kit.errors import Forbidden, Problem


class TooManyTries(Problem):
    """Too many wrong passwords; try again in {retry_after} seconds, or in a browser in which you signed in before."""

    status = 429

    def __init__(self, *, retry_after: int) -> None:
        super().__init__(headers={"Retry-After": str(retry_after)}, retry_after=retry_after)


class SignInLocked(Forbidden):
    """After so many wrong passwords in a row nobody comes in here but by the link in the letter that we sent to this
    address, or in a browser in which they signed in before."""


class Patience(Struct, frozen=True):
    """So many wrong passwords in `window` seconds; then each further one closes the door for twice as long as the one
    before, from `first` seconds to `most`."""

    wrong: int
    window: int = 900
    first: int = 60
    most: int = 900


OF_DOOR = Patience(wrong=10)  # an account's, or a known device's
OF_NUMBER = Patience(wrong=50, window=3600)  # a phone number's, whose codes are good for five tries each
OF_ADDRESS = Patience(wrong=100)  # a network address's, over any accounts
IN_A_ROW = 100  # wrong passwords, after which only a letter opens the door (NIST SP 800-63B, 3.2.2)
