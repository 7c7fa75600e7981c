"""Opening a door that too many wrong passwords locked."""

from typing import Any

from litestar import Request

from msingi.kit.errors import QuotaExceeded
from msingi.kit.http import Body, post, put
from msingi.products.accounts import rules
from msingi.products.accounts.actions import arrivals, defence
from msingi.products.accounts.routes.visitors import visitor_of
from msingi.products.accounts.schemas.addresses import AddressAsked, AskedView, Shown

AnyRequest = Request[Any, Any, Any]


@post("/unlocking", public=True, status_code=202, limit="300/minute", problems=[QuotaExceeded])
async def ask_to_unlock(data: Body[AddressAsked], request: AnyRequest) -> AskedView:
    """Ask for another letter with a link to sign in again."""
    await arrivals.ask_to_unlock(data.email, visitor_of(request))
    return AskedView()


@put("/unlocking", public=True, status_code=204, limit="60/minute", problems=[rules.tickets.BadTicket])
async def unlock(data: Body[Shown]) -> None:
    """Show the ticket of the letter: one may try one's password again."""
    await defence.unlock(data.ticket)


routes = [ask_to_unlock, unlock]
