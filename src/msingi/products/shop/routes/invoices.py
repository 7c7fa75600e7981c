"""Invoices and credit notes, over HTTP: as JSON, as PDF, and for whoever doubts a paper."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from litestar import Request, Response
from litestar.params import Parameter
from litestar.types import ControllerRouterHandler

from msingi.kit.http import Given, Path, Query, get
from msingi.products.shop import paper
from msingi.products.shop.queries import invoices as queries
from msingi.products.shop.queries.orders import Seen
from msingi.products.shop.routes.orders import ORDER
from msingi.products.shop.schemas.invoices import CheckedView, CreditNotes, InvoiceView

AnyRequest = Request[Any, Any, Any]
Language = Annotated[Literal["en", "sw"] | None, Parameter(description="else the order's")]
# Drawing costs some hundredths of a second of the processor.
DRAWN: dict[str, Any] = {"public": True, "dependencies": ORDER, "limit": "30/minute", "media_type": paper.PDF}


@get("/orders/{order_id:str}/invoice", public=True, dependencies=ORDER)
async def show_invoice(order: Given[Seen]) -> InvoiceView:
    """Its invoice, once it is paid."""
    return await queries.invoice(order)


@get("/orders/{order_id:str}/invoice.pdf", **DRAWN)
async def draw_invoice(order: Given[Seen], request: AnyRequest, language: Query[Language] = None) -> Response[bytes]:
    """Its invoice as PDF: the same bytes each time."""
    found = await queries.invoice_paper(order.order, language or order.order.language)
    return await paper.handed_out(found, request)


@get("/orders/{order_id:str}/credit-notes", public=True, dependencies=ORDER)
async def list_credit_notes(order: Given[Seen]) -> CreditNotes:
    """Its credit notes, oldest first: one for each refund of what stands on the invoice."""
    return await queries.notes(order)


@get("/orders/{order_id:str}/credit-notes/{file:str}", **DRAWN)
async def draw_credit_note(
    order: Given[Seen],
    file: Path[Annotated[str, Parameter(description="the number, and `.pdf`")]],
    request: AnyRequest,
    language: Query[Language] = None,
) -> Response[bytes]:
    """One of them as PDF: the same bytes each time."""
    found = await queries.credit_paper(order.order, queries.name_in(file), language or order.order.language)
    return await paper.handed_out(found, request)


@get("/invoices/{number:str}", public=True, identify=False, limit="60/minute")
async def check_paper(number: Path[str], check: Query[str] = "") -> CheckedView:
    """Whether an invoice or a credit note is genuine: `check` is what its code holds."""
    return await queries.checked(number, check)


routes: Sequence[ControllerRouterHandler] = [
    show_invoice,
    draw_invoice,
    list_credit_notes,
    draw_credit_note,
    check_paper,
]
