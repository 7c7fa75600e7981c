"""One try to deliver a message, what its answer means, and when the next one is due."""

import random
import time
from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from msingi.kit import clock, fetch, state
from msingi.kit.fetch import AddressRefused, ReplyTooLarge, Unreachable
from msingi.kit.webhooks import signing
from msingi.kit.webhooks.models import Delivery, Endpoint

WITHIN = 15.0  # seconds that a receiver may take
LARGEST = 64 * 1024  # bytes of an answer that are taken
SHOWN = 500  # characters of an answer that are kept
# Seconds between one try and the next: ten tries in a little over three days.
WAITS = (5, 300, 1800, *(hours * 3600 for hours in (2, 5, 10, 14, 20, 24)))
SPREAD = (0.8, 1.2)  # by which a wait is stretched, so that what failed together does not come back together
REST = (10.0, 300.0)  # seconds that a receiver that does not answer is left alone: at first, and at most
LONGEST_ASKED = 3600.0  # seconds of rest that a receiver may ask for


class Outcome(Struct, frozen=True):
    """What came of a try: the status if there was one, what was wrong, and the beginning of the answer."""

    at: datetime
    status: int | None
    fault: str = ""
    answer: str = ""
    took_ms: int = 0
    rest: float = 0  # seconds that the receiver asks for

    @property
    def taken(self) -> bool:
        """Whether the message arrived."""
        return not self.fault

    @property
    def is_gone(self) -> bool:
        """Whether the receiver says that it wants no more, ever."""
        return self.status == 410

    @property
    def is_down(self) -> bool:
        """Whether it is the receiver as a whole that does not answer, whatever the message: no use in knocking on."""
        return bool(self.fault) and (self.status is None or self.status in (429, 502, 503, 504))


async def knock(endpoint: Endpoint, delivery: Delivery) -> Outcome:
    """Send a message once, signed for this moment; whatever goes wrong is in the outcome."""
    at, began = clock.now(), time.monotonic()
    body = delivery.body.encode()
    live = [each.text for each in endpoint.secrets if each.until is None or each.until > at]
    headers = signing.headers(live, delivery.message_id, int(at.timestamp()), body)

    def outcome(status: int | None, fault: str, answer: str = "", rest: float = 0) -> Outcome:
        return Outcome(at, status, fault, answer, round((time.monotonic() - began) * 1000), rest)

    try:
        fetch.guard().check(endpoint.url, schemes())
        reply = await fetch.safely(
            endpoint.url,
            method="POST",
            content=body,
            headers={**headers, "content-type": "application/json"},
            within=WITHIN,
            largest=LARGEST,
        )
    except (AddressRefused, Unreachable) as fault:
        return outcome(None, str(fault.details["reason"]))
    except ReplyTooLarge:
        return outcome(None, f"it answered with more than {LARGEST} bytes")
    answer = reply.body[: 4 * SHOWN].decode("utf-8", "replace")[:SHOWN]
    if reply.ok:
        return outcome(reply.status, "", answer)
    return outcome(reply.status, f"it answered {reply.status}", answer, _asked(reply.headers.get("retry-after", "")))


def schemes() -> Sequence[str]:
    """How an address may begin: what is signed is still no secret, so production sends nothing in the clear."""
    return ("https",) if state.settings().production else ("https", "http")


def _asked(retry_after: str) -> float:
    if retry_after.isascii() and retry_after.isdigit():
        return min(float(retry_after[:6]), LONGEST_ASKED)
    return 0


def next_try(tries: int, at: datetime) -> datetime | None:
    """When a message that failed for the `tries`th time is tried again; None: it is given up."""
    if tries > len(WAITS):
        return None
    return at + timedelta(seconds=WAITS[tries - 1] * random.uniform(*SPREAD))


def rest_after(misses: int, outcomes: Sequence[Outcome]) -> timedelta:
    """For how long a receiver is left alone after so many rounds in which it did not answer."""
    ours = min(REST[0] * 2.0 ** min(misses - 1, 30), REST[1]) * random.uniform(*SPREAD)
    return timedelta(seconds=max(ours, *(each.rest for each in outcomes)))
