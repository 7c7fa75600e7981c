"""What a request tells of who comes."""

from typing import Any

from litestar import Request
from litestar.datastructures import Cookie

from msingi.kit import csrf, limits, pages
from msingi.products.accounts.rules.visitors import LONGEST_AGENT, Visitor

DEVICE = "device"
DEVICE_KEPT = 400 * 24 * 3600  # seconds: browsers keep none for longer
LONGEST_DEVICE = 300


def visitor_of(request: Request[Any, Any, Any]) -> Visitor:
    """Where a request comes from."""
    return Visitor(
        address=limits.client_of(request.scope).partition(":")[2],
        device=device_cookie(request.headers.get("cookie", "")),
        user_agent=request.headers.get("user-agent", "")[:LONGEST_AGENT],
        language=pages.language_of(request),
    )


def device_cookie(header: str) -> str:
    """What a Cookie header says of the device, if it is short enough to be ours."""
    value = csrf.cookie_in(header, _device_name()) or ""
    return value if len(value) <= LONGEST_DEVICE else ""


def remembering(device: str) -> list[Cookie]:
    """The cookie by which a device is known when it comes again, if there is anything to remember."""
    if not device:
        return []
    secure = csrf.cookie_name() == csrf.SECURE_COOKIE
    cookie = Cookie(
        key=_device_name(),
        value=device,
        path="/",
        secure=secure,
        httponly=True,
        samesite="lax",
        max_age=DEVICE_KEPT,
    )
    return [cookie]


def _device_name() -> str:
    """The prefix says that no other host made it; browsers take it under HTTPS only."""
    return f"__Host-{DEVICE}" if csrf.cookie_name() == csrf.SECURE_COOKIE else DEVICE
