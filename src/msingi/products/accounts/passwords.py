"""Which passwords are guessed first: what is common, what follows a pattern, and what is made of the person.

What remains of a password after all such parts are taken out must still be worth guessing, and the password must not
be on a list of those that were found in breaches.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from msingi.kit import state
from msingi.products.accounts import breaches
from msingi.products.accounts.breaches import folded
from msingi.products.accounts.models.settings import AccountsSettings
from msingi.products.accounts.rules.people import WeakPassword

LEAST_LEFT = 6  # characters that must remain
SERVICE = ("msingi",)
# Words and lines that lead every published list, and what people put together from them to reach fifteen characters.
COMMON = (
    "correcthorsebatterystaple", "maytheforcebewithyou", "opensesame", "thequickbrownfox", "jumpsoverthelazydog",
    "trustnoone", "trustno1", "ihateyou", "iloveyousomuch", "iloveyou", "letmeinplease", "letmein", "changemenow",
    "changeme", "password", "passwort", "passphrase", "passcode", "passw", "pass", "welcome", "administrator",
    "admin", "superuser", "superman", "batman", "spiderman", "starwars", "pokemon", "minecraft", "football",
    "baseball", "basketball", "liverpool", "manchester", "chelsea", "arsenal", "barcelona", "realmadrid", "princess",
    "sunshine", "shadow", "monkey", "dragon", "master", "michael", "jennifer", "jessica", "jordan", "charlie",
    "daniel", "thomas", "ashley", "nicole", "summer", "winter", "spring", "autumn", "january", "february", "december",
    "november", "october", "september", "monday", "friday", "sunday", "freedom", "whatever", "computer", "internet",
    "google", "facebook", "samsung", "killer", "hunter", "ranger", "soccer", "hockey", "mustang", "ferrari", "flower",
    "cheese", "cookie", "banana", "chocolate", "lovely", "loveme", "love", "forever", "babygirl", "family", "friends",
    "jesus", "christ", "jesuschrist", "godisgood", "blessed", "nakupenda", "karibu", "tanzania", "kenya", "uganda",
    "hakunamatata", "simba", "secret", "login", "default", "guest", "test", "demo", "example", "sample", "user",
    "root", "secure", "please", "mypassword", "this", "is", "my", "the", "myspace", "linkedin", "hello", "world",
    "goodbye", "qwerty", "azerty", "qwertz", "asdf", "zxcv", "abc", "xyz",
)  # fmt: skip
ROWS = (
    "1234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm", "qwertzuiop", "yxcvbnm", "azertyuiop", "qsdfghjklm", "wxcvbn",
    "abcdefghijklmnopqrstuvwxyz", "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p", "1q2w3e4r5t6y7u8i9o0p",
    "q1w2e3r4t5y6u7i8o9p0", "147258369", "741852963", "!@#$%^&*()", "qazwsxedcrfvtgbyhnujmikolp",
)  # fmt: skip
SHORTEST_RUN = 4
_TRAVESTY = str.maketrans("013457@$!", "oieastasi")


def check_password(password: str, *, email: str, name: str, pointer: str = "/password") -> None:
    """Raise WeakPassword if this is among the first that are tried on the account of this person."""
    plain = folded(password)
    own = _parts(email, name)
    for spelling in {plain, plain.translate(_TRAVESTY)}:
        if _is_thin(_without_patterns(_without(spelling, COMMON))):
            raise WeakPassword("too_common", pointer)
        if _is_thin(_without_patterns(_without(_without(spelling, own), COMMON))):
            raise WeakPassword("like_you", pointer)
    if any(plain in breaches.opened(path) for path in _lists()):
        raise WeakPassword("breached", pointer)


def _lists() -> list[Path]:
    """The lists of breached passwords: the house's own, and the one that it was given."""
    given = state.part(AccountsSettings).breached_passwords if state.is_running() else ""
    return [breaches.OWN, Path(given)] if given else [breaches.OWN]


def _parts(email: str, name: str) -> list[str]:
    """What a person and the service are called, the longest first."""
    local, _, domain = folded(email).partition("@")
    words = re.findall(r"\w{3,}", f"{local} {domain} {folded(name)}".replace("_", " "))
    whole = [folded(email), local, domain, folded(name), folded(name).replace(" ", "")]
    return sorted({each for each in [*words, *whole, *SERVICE] if len(each) >= 3}, key=len, reverse=True)


def _without(text: str, parts: Iterable[str]) -> str:
    for part in parts:
        text = text.replace(part, " ")
    return text


def _without_patterns(text: str) -> str:
    """Without runs of a keyboard or an alphabet, forwards or backwards, and without what is only repeated."""
    return _without_repeats(_without_runs(text))


def _without_runs(text: str) -> str:
    kept, at = [], 0
    while at < len(text):
        length = _run_at(text, at)
        if length >= SHORTEST_RUN:
            at += length
        else:
            kept.append(text[at])
            at += 1
    return "".join(kept)


def _run_at(text: str, at: int) -> int:
    """How many characters from here on follow one another on some row, which may begin again at its end."""
    longest = 1
    for row in _BOTH_WAYS:
        place, length = row.find(text[at]), 1
        while place >= 0 and at + length < len(text) and text[at + length] == row[(place + length) % len(row)]:
            length += 1
        longest = max(longest, length)
    return longest


_BOTH_WAYS = [*ROWS, *(row[::-1] for row in ROWS)]


def _without_repeats(text: str) -> str:
    """`aaaa` as `a`, `abcabcabc` as `abc`."""
    return re.sub(r"(.{1,8}?)\1{2,}", r"\1", text)


def _is_thin(rest: str) -> bool:
    """Whether what remains is so little that a guesser gets there soon."""
    left = re.sub(r"[\W_]", "", rest)
    others = re.sub(r"[\w\s]", "", rest)
    return len(left) + len(set(others)) < LEAST_LEFT
