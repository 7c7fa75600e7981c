"""How tests tell the stand-ins to misbehave: `POST /control`, a queue of faults for each kind of thing that happens.

    {"reset": true,                                    forget faults, settings, and all that was asked
     "settings": {"accept_after": 0.05},               see Settings; those that are not named stay
     "faults": {"mpesa.push": [{"fault": "cut"}],      each is used once, in this order; then all goes well again
                "mpesa.callback": [{"fault": "late", "seconds": 2}, {"fault": "lost"}],
                "stripe.create": [{"fault": "error"}]},
     "release": "reversed"}                            send what was `held`: `kept`, `reversed`, `shuffled`

It answers, as `GET /control` does, with what is left of the queues, the settings, how often each kind was asked, and
the callbacks that were sent. The kinds and faults of M-Pesa stand in FAULTS; those of Stripe in sandbox/stripe.py and
sandbox/stripe_hooks.py, here with `stripe.` before them.
"""

from collections import Counter, deque
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, structs

Fault = Mapping[str, Any]  # {"fault": "late", "seconds": 2}
Seconds = Annotated[float, Meta(ge=0, le=86_400)]

MOST = 10_000  # faults that wait, of each kind
_REQUEST = frozenset(
    {
        "slow",  # `seconds` pass before anything is done
        "error",  # `status` (500), and nothing done
        "limited",  # Daraja's spike arrest, nothing done; `status` 429 or 500
        "refused",  # 400, or `status`, `code` and `message`
        "stale",  # the token is no longer good
        "cut_before",  # nothing done, and the connection cut
        "cut",  # done, and the connection cut
        "error_after",  # done, and answered with 500
        "nonsense",  # done, and answered with a page
        "late_reply",  # done, and answered after `seconds`
    }
)
_TELLING = frozenset(
    {
        "late",  # after `seconds`
        "lost",
        "many",  # `times`, all at once
        "held",  # until `release`
        "wrong_amount",  # `amount` shillings; one less than it was, if not given
        "bare",  # with none of the details
    }
)
FAULTS: Mapping[str, frozenset[str]] = {
    "mpesa.token": _REQUEST,
    "mpesa.push": _REQUEST | {"callback_first", "in_use"},
    # What the payer does: enters the PIN, something that ends with `code`, nothing, waits for a person at
    # /mpesa/phone/…, or enters the PIN `seconds` after M-Pesa has given up with 1037.
    "mpesa.payer": frozenset({"pays", "ends", "ignores", "waits", "late_pin"}),
    "mpesa.callback": _TELLING,
    "mpesa.query": _REQUEST | {"ends"},  # answers `code` whatever is true
    "mpesa.payout": _REQUEST,
    # `ends` with `code`; `timed_out` tells the other address, and the money goes all the same if `done`.
    "mpesa.result": _TELLING | {"ends", "timed_out"},
    "mpesa.status": _REQUEST,
    "mpesa.status_result": _TELLING,
    "mpesa.register": _REQUEST,
}


class Settings(Struct, kw_only=True, forbid_unknown_fields=True):
    """How the stand-in of Daraja behaves when nothing else is wanted. Times are in seconds."""

    accept_after: Seconds = 2.0  # the payer enters the PIN
    expire_after: Seconds = 60.0  # a prompt that nobody answers ends with 1037
    pay_out_after: Seconds = 0.5
    tell_after: Seconds = 0.0  # from what happened to the callback
    token_life: Seconds = 3599.0
    one_at_a_time: bool = False  # a phone that has a prompt takes no other, as Daraja has it


class Wish(Struct, forbid_unknown_fields=True):
    """The body of `POST /control`."""

    reset: bool = False
    settings: dict[str, Any] = {}
    faults: dict[str, list[dict[str, Any]]] = {}
    release: Literal["", "kept", "reversed", "shuffled"] = ""


class Control:
    """The faults that are wanted, the settings, and what was seen."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settled = settings or Settings()
        self.reset()

    def reset(self) -> None:
        """As at the start."""
        self.settings = structs.replace(self.settled)
        self.faults: dict[str, deque[Fault]] = {}
        self.asked: Counter[str] = Counter()
        self.told: deque[dict[str, Any]] = deque(maxlen=1000)

    def take(self, kind: str) -> Fault | None:
        """The next fault that is wanted for a kind, which is thereby used."""
        waiting = self.faults.get(kind)
        return waiting.popleft() if waiting else None

    def want(self, kind: str, faults: list[dict[str, Any]]) -> None:
        """Queue faults. Raises ValueError for a kind or a fault that does not exist."""
        if kind not in FAULTS and not kind.startswith("stripe."):
            raise ValueError(f"there is no {kind}; there are {', '.join(FAULTS)} and stripe.…")
        for fault in faults:
            if kind in FAULTS and fault.get("fault") not in FAULTS[kind]:
                raise ValueError(f"{kind} has no fault {fault.get('fault')}; it has {', '.join(sorted(FAULTS[kind]))}")
            self.faults.setdefault(kind, deque(maxlen=MOST)).append(fault)

    def seen(self) -> dict[str, Any]:
        """What `GET /control` answers."""
        waiting = {kind: len(faults) for kind, faults in self.faults.items() if faults}
        return {"faults": waiting, "settings": self.settings, "asked": dict(self.asked), "told": list(self.told)}
