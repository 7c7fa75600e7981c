"""Pages made on the server: templates by name, fragments for HTMX, a strict content policy, files by content hash.

A template is named by its owner and its place there: `kit/mail.html` is `mail.html` in the kit's folder `templates`,
and a product's are found under its name. What ends in `.html` escapes all that it is given.
"""

import asyncio
import hashlib
import inspect
import json
import mimetypes
import re
import time
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

import brotli  # type: ignore[import-untyped]
import jinja2
import msgspec
from litestar import Request, Response
from litestar.enums import HttpMethod
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.response import Redirect
from msgspec import Struct
from msgspec import inspect as mi

from msingi.kit import csrf, state
from msingi.kit.errors import NotFound, Problem, SignInFirst, UnsupportedMedia
from msingi.kit.reading import read_texts

AnyRequest = Request[Any, Any, Any]
F = TypeVar("F", bound=Struct)

LANGUAGES = ("en", "sw")
POLICY = (
    "default-src 'self'; img-src {pictures} data:; object-src 'none'; base-uri 'none'; "
    "form-action {forms}; frame-ancestors 'none'"
)
FOREVER = "public, max-age=31536000, immutable"
_OWNER = re.compile(r"[a-z][a-z0-9_]{0,40}")
_HASHED = re.compile(r"(?P<stem>.+)\.(?P<digest>[0-9a-f]{12})(?P<end>\.[^./]+)")
_LINKING = re.compile(r"([./:@\\。．｡])(?=\S)")
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


# ---- pages


def page(
    name: str,
    request: AnyRequest,
    /,
    *,
    status: int = 200,
    block: str = "content",
    policy: str | None = None,
    **context: Any,
) -> Response[str]:
    """The page of a template; to HTMX only its `block`, unless the template has none of that name.

    Without a `policy` of its own it gets `policy_for()`.

    Templates know, beside `context`: `request`, `actor` (or None), `language`, `_` (translates), `said` (a problem in
    words), `csrf` (makes a
    token for a form's `_csrf` field or HTMX's header `X-CSRF-Token`) and `static` (the address of a file). A block that
    is sent alone sees no import that stands outside of it.
    """
    actor, language = request.scope.get("user"), language_of(request)
    known = {
        "request": request,
        "actor": actor,
        "language": language,
        "_": partial(translate, language=language, owner=name.partition("/")[0]),
        "said": partial(said, language=language, owner=name.partition("/")[0]),
        "csrf": lambda: csrf.token_for(_session(request)),
        "frame": _frame[0][0],
        **_frame[0][1](request),
        **context,
    }
    template = environment().get_template(name)
    alone = wants_fragment(request) and block in template.blocks
    text = "".join(template.blocks[block](template.new_context(known))) if alone else template.render(known)
    headers = {
        "Content-Security-Policy": policy_for() if policy is None else policy,
        "Cache-Control": "no-store" if actor else "no-cache",
        "Vary": "HX-Request, Cookie, Accept-Language",
        "Content-Language": language,
    }
    return Response(text, status_code=status, media_type="text/html", headers=headers)


def policy_for(*forms: str) -> str:
    """What a page of ours may load and where its forms may go: to this house, and to the origins given here.

    Pictures may also come from the origin of `CDN_URL`, where `files.url_of` says that they are.
    """
    cdn = urlsplit(state.settings().cdn_url)
    pictures = ["'self'", *([f"{cdn.scheme}://{cdn.netloc}"] if cdn.netloc else [])]
    return POLICY.format(pictures=" ".join(pictures), forms=" ".join(["'self'", *forms]))


Around = Callable[[AnyRequest], Mapping[str, Any]]
_frame: list[tuple[str, Around]] = [("kit/frame.html", lambda request: {})]


def frame_with(template: str, context: Around) -> None:
    """Let the kit's own pages stand in the frame of all others: the template that they extend, and what it needs."""
    _frame[:] = [(template, context)]


def render(name: str, context: Mapping[str, Any]) -> str:
    """The text of a template, for what is no reply: letters, files."""
    return environment().get_template(name).render(context)


def wants_fragment(request: AnyRequest) -> bool:
    """Whether HTMX asks for a part of the page: not when it follows a boosted link or restores its history."""
    asked = request.headers
    whole = "true" in (asked.get("hx-boosted"), asked.get("hx-history-restore-request"))
    return asked.get("hx-request") == "true" and not whole


def own_path(back: str) -> str:
    """The page to go back to, if it is one of ours: no address of elsewhere, however it is written."""
    is_ours = back.startswith("/") and not back.startswith(("//", "/\\")) and back.isprintable()
    return back if is_ours else "/"


async def form_of(request: AnyRequest, kind: type[F]) -> F:
    """What a page's form sent, as a Struct, once it is sure that one of our own pages sent it.

    Raises CrossSite (403) without the session's token in `_csrf` or `X-CSRF-Token`, UnsupportedMedia (415) for what no
    form sends, InvalidFields (422).
    """
    csrf.check_origin(dict(request.scope["headers"]))
    if request.content_type[0] not in _FORMS:
        raise UnsupportedMedia(wanted=_FORMS[0])
    form = await request.form()
    token = form.get(csrf.FIELD) or request.headers.get(csrf.HEADER.decode(), "")
    if not isinstance(token, str) or not csrf.is_token(_session(request), token):
        raise csrf.CrossSite(reason=f"the field {csrf.FIELD} is missing or belongs to another session")
    several = _lists_of(kind)
    given = {name: form.getall(name) if name in several else form[name] for name in form if name != csrf.FIELD}
    return read_texts(kind, given, "body")


@lru_cache(maxsize=256)
def gone_well(path: str, done: str = "saved") -> Redirect:
    """To a page of this house, which says by `?done=` what came of the form that led to it."""
    return Redirect(f"{path}?{urlencode({'done': done})}", status_code=303)


def to_show(problem: Problem) -> Problem:
    """A problem that the form's page shows to the person. What is ours, asks to sign in, or is about a form from
    elsewhere, is raised again."""
    if problem.status >= 500 or isinstance(problem, (SignInFirst, csrf.CrossSite)):
        raise problem
    return problem


def _lists_of(kind: type[Struct]) -> frozenset[str]:
    """The fields that take several values of the same name."""
    fields = ((each.name, mi.type_info(each.type)) for each in msgspec.structs.fields(kind))
    return frozenset(name for name, type_ in fields if isinstance(type_, (mi.ListType, mi.SetType, mi.FrozenSetType)))


def _session(request: AnyRequest) -> str:
    """What the token is bound to; before signing in there is no session, and only the Origin tells friend from foe."""
    return csrf.session_cookie(request.headers.get("cookie", "")) or ""


# ---- templates


class Templates:
    """This process's Jinja environment."""

    def __init__(self) -> None:
        self.environment = jinja2.Environment(
            loader=jinja2.FunctionLoader(_source),
            autoescape=jinja2.select_autoescape(["html"], default_for_string=False),
            undefined=jinja2.StrictUndefined,
            auto_reload=not state.settings().production,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.environment.filters["unlinked"] = unlinked
        self.environment.globals["static"] = static_url
        self.environment.globals["base_url"] = state.settings().base_url


def unlinked(text: str) -> str:
    """What somebody chose to be called, so that no mail reader makes a link or an address of it: our letters carry no
    strangers' messages."""
    return _LINKING.sub(r"\1 ", text)


def environment() -> jinja2.Environment:
    """The environment that finds every template of the house."""
    return state.part(Templates).environment


def folder_of(owner: str) -> Path | None:
    """Where a product (or `kit`, or `console`) keeps its templates, words and static files; None if there is none."""
    for product in state.current().products:
        if getattr(product, "name", None) == owner and getattr(product, "folder", None):
            return Path(product.folder)
    return _package_folder(owner)


@lru_cache(maxsize=128)
def _package_folder(owner: str) -> Path | None:
    if not _OWNER.fullmatch(owner):
        return None
    package = f"msingi.{owner}" if owner in ("kit", "console") else f"msingi.products.{owner}"
    found = find_spec(package)
    return Path(found.submodule_search_locations[0]) if found and found.submodule_search_locations else None


def source_of(name: str) -> str:
    """The text of a template as it was written. Raises jinja2.TemplateNotFound."""
    found = _source(name)
    if found is None:
        raise jinja2.TemplateNotFound(name)
    return found[0]


def _source(name: str) -> tuple[str, str, Callable[[], bool]] | None:
    owner, _, place = name.partition("/")
    folder = folder_of(owner)
    if folder is None or ".." in place.split("/"):
        return None
    path = folder / "templates" / place
    if not path.is_file():
        return None
    written = path.stat().st_mtime_ns
    return path.read_text("utf-8"), str(path), lambda: path.is_file() and path.stat().st_mtime_ns == written


# ---- languages


def language_of(request: AnyRequest) -> str:
    """The language to answer in: `?lang=`, else the cookie `lang`, else the best of Accept-Language, else English."""
    for asked in (request.query_params.get("lang"), request.cookies.get("lang")):
        if asked in LANGUAGES:
            return str(asked)
    return _best(request.headers.get("accept-language", ""))


@lru_cache(maxsize=512)
def _best(header: str) -> str:
    wished = []
    for each in header[:200].split(","):
        tag, _, weight = each.partition(";q=")
        language = tag.strip().split("-")[0].lower()
        if language in LANGUAGES:
            wished.append((_weight(weight), language))
    best = max(wished, key=lambda wish: wish[0], default=(0.0, LANGUAGES[0]))
    return best[1] if best[0] > 0 else LANGUAGES[0]


def _weight(text: str) -> float:
    return float(text) if re.fullmatch(r"[01](\.\d{0,3})?", text.strip()) else 1.0


def translate(text: str, language: str, owner: str = "kit") -> str:
    """An English text in another language, by `templates/words.<language>.json` of the owner, the kit or the frame."""
    if language == LANGUAGES[0]:
        return text
    owners = (owner, "kit", _frame[0][0].partition("/")[0])
    return next((found for each in owners if (found := _words(each, language).get(text))), text)


def said(problem: Problem, language: str, owner: str = "kit") -> str:
    """What a problem says to a person, with the numbers of the case."""
    details = {
        name: translate(each, language, owner) if isinstance(each, str) else each
        for name, each in problem.details.items()
    }
    return translate(inspect.cleandoc(type(problem).__doc__ or ""), language, owner).format(**details)


def _words(owner: str, language: str) -> Mapping[str, str]:
    folder = folder_of(owner)
    path = folder / "templates" / f"words.{language}.json" if folder else None
    return _words_in(path, path.stat().st_mtime_ns) if path and path.is_file() else {}


@lru_cache(maxsize=64)
def _words_in(path: Path, written: int) -> Mapping[str, str]:
    words: dict[str, str] = json.loads(path.read_text("utf-8"))
    return words


# ---- static files


class Asset(Struct, frozen=True):
    """A file to be served: its bytes, its media type, and the hash that names it."""

    body: bytes
    kind: str
    digest: str
    path: Path


def static_url(name: str) -> str:
    """The address of a static file, changing with its content: `kit/mail.css` → `/static/kit/mail.<hash>.css`.

    Raises LookupError if there is no such file.
    """
    owner, _, place = name.partition("/")
    found = _asset(owner, place)
    if found is None:
        raise LookupError(f"there is no static file {name}")
    stem, dot, end = place.rpartition(".")
    return f"/static/{owner}/{stem}.{found.digest}{dot}{end}"


def static(owner: str) -> HTTPRouteHandler:
    """The route of an owner's static files: kept for a year under hashed names, asked for anew under plain ones."""

    async def get_static(request: AnyRequest, file: FromPath[str]) -> Response[bytes]:
        asked = file.lstrip("/")
        named = _HASHED.fullmatch(asked)
        hashed = _asset(owner, f"{named['stem']}{named['end']}") if named else None
        found = hashed or _asset(owner, asked)
        if found is None or (hashed and named and hashed.digest != named["digest"]):
            raise NotFound
        return await _served(found, request, FOREVER if hashed else "no-cache")

    return HTTPRouteHandler(
        f"/static/{owner}/{{file:path}}",
        http_method=[HttpMethod.GET],
        name=f"static {owner}",
        include_in_schema=False,
        public=True,
    )(get_static)


async def _served(asset: Asset, request: AnyRequest, cache: str) -> Response[bytes]:
    packed = await _packed(asset) if "br" in request.headers.get("accept-encoding", "") else None
    etag = f'"{asset.digest}{"-br" if packed else ""}"'
    headers = {"ETag": etag, "Cache-Control": cache, "Vary": "Accept-Encoding", "X-Content-Type-Options": "nosniff"}
    if etag in request.headers.get("if-none-match", ""):
        return Response(b"", status_code=304, headers=headers, media_type=asset.kind)
    if packed:
        headers["Content-Encoding"] = "br"
    return Response(packed or asset.body, headers=headers, media_type=asset.kind)


def _asset(owner: str, place: str) -> Asset | None:
    """The file at a place, if it is one of those that the folder holds: a name is looked up, never followed."""
    folder = folder_of(owner)
    path = _listed(folder / "static", _round()).get(place) if folder else None
    return _loaded(path, path.stat().st_mtime_ns) if path and path.is_file() else None


@lru_cache(maxsize=128)
def _listed(folder: Path, round_: object) -> Mapping[str, Path]:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {path.relative_to(folder).as_posix(): path for path in files if path.suffix != ".br"}


def _round() -> object:
    """In production a folder is listed once; elsewhere again each second, so that new files are found."""
    return None if state.settings().production else int(time.monotonic())


@lru_cache(maxsize=512)
def _loaded(path: Path, written: int) -> Asset:
    body = path.read_bytes()
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    digest = hashlib.sha256(body).hexdigest()[:12]
    return Asset(body, kind, digest, path)


class Packed:
    """What this process has compressed so far, by content."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes | None] = {}


async def _packed(asset: Asset) -> bytes | None:
    """The file in brotli: as it lies beside it (`style.css.br`), else made once; None where that saves nothing."""
    bodies = state.part(Packed).bodies
    if asset.digest not in bodies:
        beside = asset.path.with_name(asset.path.name + ".br")
        made = beside.read_bytes() if beside.is_file() else await asyncio.to_thread(_brotli, asset)
        bodies[asset.digest] = made if len(made) < len(asset.body) else None
    return bodies[asset.digest]


def _brotli(asset: Asset) -> bytes:
    if not (asset.kind.startswith("text/") or asset.kind.endswith(("javascript", "json", "xml"))):
        return asset.body
    packed: bytes = brotli.compress(asset.body, quality=9)
    return packed
