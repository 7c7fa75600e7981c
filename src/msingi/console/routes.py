"""Pages that tie the products together: home, the API's readers, signing in, the jobs, what problems mean."""

import inspect
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any
from urllib.parse import urlencode

from litestar import Request, Response
from litestar.enums import MediaType
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from msingi.console import figures
from msingi.console.shell import THEMES, own_path, running, shell
from msingi.kit import audit, jobs, openapi, pages, state
from msingi.kit.db import Paging
from msingi.kit.errors import Forbidden, NotFound, Problem, SignInFirst, code_of
from msingi.kit.health import mongo_answers, redis_answers
from msingi.kit.http import Given, form_at, get, page_at
from msingi.kit.mail import mail_pages
from msingi.kit.product import Product

AnyRequest = Request[Any, Any, Any]
# The readers of the API description make styles and workers as they run; nothing of it comes from elsewhere.
READERS = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
YEAR = 365 * 24 * 3600


class Reader(Struct, frozen=True):
    """A program that shows the API description: where it is, and the files that it is made of."""

    name: str
    title: str
    path: str
    script: str
    style: str = ""


SWAGGER = Reader(
    "swagger",
    "Swagger UI",
    "/docs",
    "console/vendor/swagger-ui-bundle.js",
    "console/vendor/swagger-ui.css",
)
REDOC = Reader("redoc", "Redoc", "/docs/redoc", "console/vendor/redoc.standalone.js")
SCALAR = Reader("scalar", "Scalar", "/docs/scalar", "console/vendor/scalar.standalone.js")


class Choice(Struct):
    """A theme or a language that somebody chose, and the page to go back to."""

    to: str
    back: str = "/"


class Which(Struct):
    """Which failed job."""

    product: str
    id: str


@get("/", public=True, include_in_schema=False)
async def show_home(request: AnyRequest) -> Response[str]:
    """What runs here, and what to try first."""
    up = {"MongoDB": await mongo_answers(), "Redis": await redis_answers()}
    return pages.page("console/home.html", request, **shell(request), up=up, tries=_tries())


@get("/docs", public=True, include_in_schema=False)
async def show_swagger(request: AnyRequest, product: FromQuery[str] = "") -> Response[str]:
    """The API in Swagger UI."""
    return _read_in(SWAGGER, request, product)


@get("/docs/redoc", public=True, include_in_schema=False)
async def show_redoc(request: AnyRequest, product: FromQuery[str] = "") -> Response[str]:
    """The API in Redoc."""
    return _read_in(REDOC, request, product)


@get("/docs/scalar", public=True, include_in_schema=False)
async def show_scalar(request: AnyRequest, product: FromQuery[str] = "") -> Response[str]:
    """The API in Scalar."""
    return _read_in(SCALAR, request, product)


@get("/openapi.json", public=True, include_in_schema=False, media_type=MediaType.JSON)
async def show_openapi(request: AnyRequest) -> dict[str, Any]:
    """The OpenAPI 3.1 description of all that this process serves."""
    return openapi.describe(request.app)


@get("/openapi/{file:str}", public=True, include_in_schema=False, media_type=MediaType.JSON)
async def show_openapi_of_one(request: AnyRequest, file: FromPath[str]) -> dict[str, Any]:
    """The description of one product: `/openapi/notes.json`."""
    name = file.removesuffix(".json")
    if name not in {product.name for product in running()} or not file.endswith(".json"):
        raise NotFound
    return openapi.describe(request.app, name)


@get("/postman.json", public=True, include_in_schema=False, media_type=MediaType.JSON)
async def show_postman(request: AnyRequest) -> Response[dict[str, Any]]:
    """The same as a Postman collection, to download."""
    collection = openapi.postman(openapi.describe(request.app), state.settings().base_url)
    headers = {"Content-Disposition": 'attachment; filename="msingi.postman_collection.json"'}
    return Response(collection, headers=headers)


@get("/problems/{code:str}", public=True, include_in_schema=False)
async def show_problem(request: AnyRequest, code: FromPath[str]) -> Response[str]:
    """What a problem's `type` leads to: what it means, in words."""
    for kind in _kinds(Problem):
        if code_of(kind) == code:
            meaning = inspect.cleandoc(kind.__doc__ or "")
            return pages.page("console/problem.html", request, **shell(request), kind=kind, code=code, meaning=meaning)
    raise NotFound


@page_at("/jobs", permission="jobs:manage")
async def show_jobs(request: AnyRequest, page: Given[Paging]) -> Response[str]:
    """The queues, and what failed for good."""
    failed = await jobs.failures(page)
    return pages.page("console/jobs.html", request, **shell(request), queues=await jobs.queues(), failures=failed)


@page_at("/bench", public=True)
async def show_race(request: AnyRequest) -> Response[str]:
    """What the last race measured: for everybody in development, else for who may read the metrics."""
    _allow_figures(request)
    return pages.page("console/race.html", request, **shell(request), run=figures.read(), figures=figures)


def _allow_figures(request: AnyRequest) -> None:
    actor = request.scope.get("user")
    if not state.settings().production or (actor is not None and actor.may("metrics:read")):
        return
    raise SignInFirst if actor is None else Forbidden


@form_at("/jobs/again", permission="jobs:manage")
async def run_job_again(request: AnyRequest) -> Redirect:
    """Give a failed job another chance."""
    which = await _which(request)
    await jobs.run_again(which.product, which.id)
    await audit.note("house.job_run_again", actor=request.user, about=which.id, product=which.product)
    return Redirect("/jobs", status_code=303)


@form_at("/jobs/discard", permission="jobs:manage")
async def discard_job(request: AnyRequest) -> Redirect:
    """Give a failed job up."""
    which = await _which(request)
    await jobs.discard(which.product, which.id)
    await audit.note("house.job_discarded", actor=request.user, about=which.id, product=which.product)
    return Redirect("/jobs", status_code=303)


async def _which(request: AnyRequest) -> Which:
    which = await pages.form_of(request, Which)
    if which.product not in {product.name for product in running()}:
        raise NotFound
    return which


@form_at("/theme", public=True)
async def choose_theme(request: AnyRequest) -> Redirect:
    """Light, dark, or as the system has it."""
    return await _chosen(request, "theme", THEMES)


@form_at("/language", public=True)
async def choose_language(request: AnyRequest) -> Redirect:
    """English or Swahili."""
    return await _chosen(request, "lang", pages.LANGUAGES)


async def _chosen(request: AnyRequest, cookie: str, known: Sequence[str]) -> Redirect:
    choice = await pages.form_of(request, Choice)
    reply = Redirect(own_path(choice.back), status_code=303)
    if choice.to in known:
        secure = state.settings().base_url.startswith("https://")
        reply.set_cookie(cookie, choice.to, max_age=YEAR, httponly=True, samesite="lax", secure=secure)
    return reply


def _read_in(reader: Reader, request: AnyRequest, product: str) -> Response[str]:
    known = product in {each.name for each in running()}
    context: dict[str, Any] = {
        "reader": reader,
        "readers": (SWAGGER, REDOC, SCALAR),
        "source": f"/openapi/{product}.json" if known else "/openapi.json",
        "query": urlencode({"product": product}) if known else "",
    }
    return pages.page("console/reader.html", request, policy=READERS, **shell(request), **context)


def _tries() -> list[tuple[str, str]]:
    """Three commands that work as they stand."""
    base = state.settings().base_url
    return [
        ("Is it alive?", f"curl {base}/health"),
        ("Its description, for your tools", f"curl {base}/openapi.json"),
        ("What an error looks like", f"curl -i {base}/v1/nowhere"),
    ]


def _kinds(kind: type[Problem]) -> Iterator[type[Problem]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _kinds(below)


def routes_for(products: Sequence[Product]) -> list[ControllerRouterHandler]:
    """The pages of a process that serves these products; it signs people in where it has the accounts."""
    pages.frame_with("console/base.html", shell)
    signing = (
        import_module("msingi.console.signing").routes if any(each.name == "accounts" for each in products) else []
    )
    return [*routes, *signing, *mail_pages, pages.static("console")]


routes: list[ControllerRouterHandler] = [
    show_home,
    show_swagger,
    show_redoc,
    show_scalar,
    show_openapi,
    show_openapi_of_one,
    show_postman,
    show_problem,
    show_jobs,
    show_race,
    run_job_again,
    discard_job,
    choose_theme,
    choose_language,
]
