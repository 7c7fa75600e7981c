"""What a request tells of who comes."""

from typing import Any

from litestar import Request

from msingi.kit import limits, pages
from msingi.products.accounts.rules.visitors import LONGEST_AGENT, Visitor


def visitor_of(request: Request[Any, Any, Any]) -> Visitor:
    """Where a request comes from."""
    return Visitor(
        address=limits.client_of(request.scope).partition(":")[2],
        user_agent=request.headers.get("user-agent", "")[:LONGEST_AGENT],
        language=pages.language_of(request),
    )
