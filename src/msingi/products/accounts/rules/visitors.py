"""Who comes: what a request tells of the browser or program behind it."""

from msgspec import Struct

LONGEST_AGENT = 300


class Visitor(Struct, frozen=True):
    """Where a request comes from. `address` is an IPv4 address or the /64 of an IPv6 one; `device` is what a cookie of
    ours says of a browser that signed in before, or empty."""

    address: str = ""
    user_agent: str = ""
    device: str = ""
    language: str = "en"
