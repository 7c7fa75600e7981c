"""What a User-Agent header tells a person: which browser, on which system. It may lie, and decides nothing."""

import re

BROWSERS = (
    ("Edg(?:e|A|iOS)?/", "Edge"),
    ("OPR/|Opera", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("UCBrowser/", "UC Browser"),
    ("Firefox/|FxiOS/", "Firefox"),
    ("Chrome/|CriOS/|Chromium/", "Chrome"),
    ("Version/.*Safari/", "Safari"),
)
SYSTEMS = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("KAIOS", "KaiOS"),
    ("Windows", "Windows"),
    ("CrOS", "ChromeOS"),
    ("Mac OS X|Macintosh", "macOS"),
    ("Linux", "Linux"),
)
LONGEST = 40


def browser_of(user_agent: str) -> str:
    """The browser's name; of another program, what it calls itself; nothing if it is silent."""
    found = _first(BROWSERS, user_agent)
    return found or re.split(r"[/\s(]", user_agent.strip(), maxsplit=1)[0][:LONGEST]


def system_of(user_agent: str) -> str:
    """What it runs on, or nothing."""
    return _first(SYSTEMS, user_agent)


def called(user_agent: str) -> str:
    """Both in one line."""
    return ", ".join(each for each in (browser_of(user_agent), system_of(user_agent)) if each)


def _first(known: tuple[tuple[str, str], ...], user_agent: str) -> str:
    return next((name for sign, name in known if re.search(sign, user_agent)), "")
