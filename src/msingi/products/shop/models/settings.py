"""What the shop is told by its environment."""

import re
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Meta, Struct, field

ONE = r"[1-9]\d{0,8}/([1-9]\d{0,6} ?)?(second|minute|hour|day)s?"
LIMITS = rf"^{ONE}(, *{ONE})*$"  # as kit.limits reads them
KRA_PIN = re.compile(r"[AP]\d{9}[A-Z]", re.ASCII)
Secret = Annotated[str, Meta(extra={"secret": True})]


class ShopSettings(Struct, frozen=True, kw_only=True):
    """Without `stripe_key` and `mpesa_key` the sandbox at `sandbox_url` stands in for both, outside of production."""

    currency: Annotated[str, Meta(pattern="^[A-Z]{3}$")] = field(name="MSINGI_SHOP_CURRENCY", default="KES")
    country: Annotated[str, Meta(pattern="^[A-Z]{2}$")] = field(name="MSINGI_SHOP_COUNTRY", default="KE")
    zone: str = field(name="MSINGI_SHOP_ZONE", default="Africa/Nairobi")  # of its days and years
    name: str = field(name="MSINGI_SHOP_NAME", default="Duka")
    address: str = field(name="MSINGI_SHOP_ADDRESS", default="")  # on invoices, its lines separated by commas
    tax_pin: str = field(name="MSINGI_SHOP_TAX_PIN", default="")  # on invoices
    texts: bool = field(name="MSINGI_SHOP_TEXTS", default=False)  # receipts and delivery codes by SMS too
    stock_email: str = field(name="MSINGI_SHOP_STOCK_EMAIL", default="")  # who hears of stock that runs low
    hold_seconds: Annotated[int, Meta(ge=1, le=7200)] = field(name="MSINGI_SHOP_HOLD_SECONDS", default=900)
    prompts_to_phone: Annotated[str, Meta(pattern=LIMITS)] = field(  # how often one number may be made to ring
        name="MSINGI_SHOP_PROMPTS_TO_PHONE", default="3/minute, 10/hour"
    )
    callback_secret: Secret = field(name="MSINGI_SHOP_CALLBACK_SECRET", default="")  # default: derived
    sandbox_url: str = field(name="MSINGI_SHOP_SANDBOX_URL", default="")
    stripe_key: Secret = field(name="MSINGI_STRIPE_KEY", default="")
    stripe_webhook_secret: Secret = field(name="MSINGI_STRIPE_WEBHOOK_SECRET", default="")
    stripe_url: str = field(name="MSINGI_STRIPE_URL", default="https://api.stripe.com")
    mpesa_key: Secret = field(name="MSINGI_MPESA_KEY", default="")
    mpesa_secret: Secret = field(name="MSINGI_MPESA_SECRET", default="")
    mpesa_passkey: Secret = field(name="MSINGI_MPESA_PASSKEY", default="")
    mpesa_shortcode: str = field(name="MSINGI_MPESA_SHORTCODE", default="174379")
    mpesa_initiator: str = field(name="MSINGI_MPESA_INITIATOR", default="")
    mpesa_credential: Secret = field(name="MSINGI_MPESA_CREDENTIAL", default="")  # sealed as Daraja asks
    mpesa_url: str = field(name="MSINGI_MPESA_URL", default="https://api.safaricom.co.ke")
    mpesa_addresses: str = field(name="MSINGI_MPESA_ADDRESSES", default="")  # networks that callbacks may come from

    def __post_init__(self) -> None:
        try:
            ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"MSINGI_SHOP_ZONE: there is no time zone {self.zone!r}") from None
        if self.country == "KE" and self.tax_pin and not KRA_PIN.fullmatch(self.tax_pin):
            raise ValueError(
                f"MSINGI_SHOP_TAX_PIN: {self.tax_pin!r} is no PIN of the KRA, as P051234567X: "
                "A or P, nine digits and a letter, all capitals"
            )
