"""The shop's till: the providers that the settings name, and the event that each change of a payment carries."""

from collections.abc import Mapping

import msgspec

from msingi.kit import sealing, state
from msingi.kit.payments.face import Provider
from msingi.kit.payments.mpesa import MPesa
from msingi.kit.payments.stripe import Stripe
from msingi.kit.payments.till import Till
from msingi.products.shop.contract import PaymentChanged
from msingi.products.shop.models.settings import ShopSettings
from msingi.products.shop.queries.payments import whose

CALLBACKS = "/v1/shop/callbacks/mobile"  # and then a segment of its own; Safaricom takes no address that names M-Pesa

# What the stand-in of M-Pesa takes.
STAND_IN = {
    "mpesa_key": "sandbox",
    "mpesa_secret": "sandbox",
    "mpesa_passkey": "sandbox-passkey",
    "mpesa_initiator": "sandbox",
    "mpesa_credential": "sandbox",
}


class Providers:
    """Whom this process asks for money, by name. A test puts one with providers of its own among the parts."""

    def __init__(self, by_name: Mapping[str, Provider] | None = None) -> None:
        self.by_name = _configured(state.part(ShopSettings)) if by_name is None else by_name


def till() -> Till:
    """The till, with those providers."""
    return Till("shop", state.part(Providers).by_name, PaymentChanged, whose)


def callback_secret(settings: ShopSettings) -> str:
    """What makes the addresses of callbacks hard to guess: as it is set, else derived from the house's own key."""
    return settings.callback_secret or sealing.blind("shop.callbacks", "of payments")


def _configured(settings: ShopSettings) -> dict[str, Provider]:
    """Those with a key; outside of production the sandbox stands in for both."""
    sandbox = "" if state.settings().production else settings.sandbox_url.rstrip("/")
    found: dict[str, Provider] = {}
    if settings.stripe_key or sandbox:
        found["stripe"] = _stripe(settings, sandbox)
    if settings.mpesa_key or sandbox:
        found["mpesa"] = _mpesa(settings, sandbox)
    return found


def _stripe(settings: ShopSettings, sandbox: str) -> Provider:
    if settings.stripe_key:
        return Stripe(settings.stripe_key, url=settings.stripe_url)
    return Stripe("sk_test_sandbox", url=f"{sandbox}/stripe", pay_at=f"{sandbox}/stripe/pay")


def _mpesa(settings: ShopSettings, sandbox: str) -> Provider:
    known = (
        settings if settings.mpesa_key else msgspec.structs.replace(settings, **STAND_IN, mpesa_url=f"{sandbox}/mpesa")
    )
    return MPesa(
        url=known.mpesa_url,
        key=known.mpesa_key,
        secret=known.mpesa_secret,
        passkey=known.mpesa_passkey,
        shortcode=known.mpesa_shortcode,
        callbacks=f"{state.settings().base_url}{CALLBACKS}",
        callback_secret=callback_secret(settings),
        initiator=known.mpesa_initiator,
        credential=known.mpesa_credential,
    )
