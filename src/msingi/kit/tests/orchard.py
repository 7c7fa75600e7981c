"""A product of a few routes, made for the tests of the gate, the lists, the replies and the description."""

from datetime import datetime
from enum import Enum
from typing import Annotated, Any

import msgspec
from litestar import Request, WebSocket, asgi, websocket
from litestar.exceptions import HTTPException
from litestar.types import Receive, Scope, Send
from msgspec import Meta
from pymongo.errors import AutoReconnect, ExecutionTimeout, OperationFailure, ServerSelectionTimeoutError

from msingi.kit import pages
from msingi.kit.actors import Actor
from msingi.kit.db import Collection, Doc, Form, Page, Paging, View, Where
from msingi.kit.errors import AlreadyExists, Conflict, Stale
from msingi.kit.http import Body, Filters, Given, Path, Query, delete, get, patch, post
from msingi.kit.policy import Asker, Policy, holds, names_actor
from msingi.kit.product import Product
from msingi.kit.replies import KitResponse, created
from msingi.kit.unit import atomic

AnyRequest = Request[Any, Any, Any]
SECRET = "mongodb://root:hunter2@db-7.internal:27017"
Height = Annotated[int, Meta(ge=0, le=200)]


class Kind(Enum):
    apple = "apple"
    mango = "mango"


class TreeIsHollow(Conflict):
    """A hollow tree bears nothing."""


class Tree(Doc):
    owner: str
    kind: Kind = Kind.apple
    height: int = 0
    pruned_at: datetime | None = None
    labels: list[str] = []


class TreeView(View):
    id: str
    kind: Kind
    height: int
    version: int


class Graft(Form):
    kind: Kind


class NewTree(Form):
    height: Height
    kind: Kind = Kind.apple
    grafts: list[Graft] = []


class TreePatch(Form):
    height: Height


class Wish(msgspec.Struct):
    name: str


trees = Collection(Tree, "trees", indexes=["owner", "kind"])
FILTERS = Filters(kind=Kind, height=int, pruned_at=datetime, label=("labels", str), dead=bool, weight=float)
policy = Policy(Tree, see=names_actor("owner") | holds("trees:see_all"))


async def tree_in_path(tree_id: Path[str], actor: Given[Actor]) -> Tree:
    return await trees.get(tree_id, policy.scope_filter("see", Asker(actor)))


@get("/trees", filters=FILTERS, also=("q",))
async def list_trees(
    actor: Given[Actor], page: Given[Paging], where: Given[Where], q: Query[str] = ""
) -> Page[TreeView]:
    """One's trees."""
    found = await trees.page(
        {"$and": [policy.scope_filter("see", Asker(actor)), where]}, page, sorts=("-_id", "kind", "height", "pruned_at")
    )
    return found.map(TreeView.of)


@post("/trees", idempotency="required", problems=[TreeIsHollow, AlreadyExists])
async def plant_tree(data: Body[NewTree], actor: Given[Actor]) -> KitResponse[TreeView]:
    """Plant a tree."""
    tree = await plant(Tree(owner=actor.id, height=data.height, kind=data.kind))
    return created(TreeView.of(tree), f"/v1/orchard/trees/{tree.id}")


@atomic
async def plant(tree: Tree) -> Tree:
    return await trees.add(tree)


@get("/trees/{tree_id:str}")
async def show_tree(tree: Given[Tree]) -> TreeView:
    """One tree."""
    return TreeView.of(tree)


@patch("/trees/{tree_id:str}", problems=[Stale])
async def prune_tree(tree: Given[Tree], data: Body[TreePatch], if_match: Given[int | None]) -> TreeView:
    """Make a tree lower, or say that it grew."""
    return TreeView.of(await prune(tree.id, data.height, if_match))


@atomic
async def prune(id: str, height: int, version: int | None) -> Tree:
    return await trees.change(id, {"$set": {"height": height}}, when={} if version is None else {"version": version})


@delete("/trees/{tree_id:str}", permission="trees:fell")
async def fell_tree(tree: Given[Tree]) -> None:
    """Fell a tree."""
    await fell(tree)


@atomic
async def fell(tree: Tree) -> None:
    await trees.remove(tree)


@get("/open", public=True)
async def show_who_comes(request: AnyRequest) -> dict[str, str]:
    """Who is asking, if anybody."""
    return {"who": request.user.id if request.user else "nobody"}


@get("/mine", public="yes")  # not True: what is not said exactly is not said
async def show_mine(request: AnyRequest) -> dict[str, str]:
    """Nearly public, and so not."""
    return {}


@post("/moves", public=True, status_code=200)
async def move_ladder(request: AnyRequest) -> dict[str, str]:
    """A write that anybody may do."""
    return {"who": request.user.id if request.user else "nobody"}


@post("/pictures", status_code=200, upload=True, idempotency="off")
async def hang_picture(actor: Given[Actor]) -> dict[str, str]:
    """A write whose body is no JSON."""
    return {"who": actor.id}


@post("/wishes", public=True, page=True, idempotency="off", status_code=200)
async def wish_on_page(request: AnyRequest) -> dict[str, str]:
    """A form of a page."""
    return {"name": (await pages.form_of(request, Wish)).name}


@get("/shut", public=True, permission="trees:fell")
async def show_shut() -> dict[str, str]:
    """Public by mistake, but with a permission."""
    return {}


@get("/rows/{word:path}", public=True)
async def list_rows(word: Path[str]) -> Page[str]:
    """A page that has another after it."""
    return Page(["row"], "after this")


@get("/falls/{how:str}", public=True)
async def fall(how: Path[str]) -> None:
    """Go wrong in the way that is asked for."""
    raise FALLS[how]


FALLS: dict[str, Exception] = {
    "apart": RuntimeError(SECRET),
    "unreachable": ServerSelectionTimeoutError(SECRET),
    "reconnect": AutoReconnect(SECRET),
    "late": ExecutionTimeout(SECRET, code=50),
    "refused": OperationFailure(SECRET, code=13),
    "teapot": HTTPException(status_code=418, detail="short and stout", headers={"X-Spout": "yes"}),
    "gone": HTTPException(status_code=410, detail="it was here"),
    "unnamed": HTTPException(status_code=499, detail="no phrase"),
    "broken": HTTPException(status_code=502, detail=SECRET),
    "hollow": TreeIsHollow(depth=3),
}


@websocket("/feed")
async def feed(socket: WebSocket[Any, Any, Any]) -> None:
    await socket.accept()
    await socket.send_json({"who": socket.user.id})
    await socket.close()


@asgi("/raw", copy_scope=True)
async def raw(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"fruit", "more_body": False})


routes = [
    list_trees,
    plant_tree,
    show_tree,
    prune_tree,
    fell_tree,
    show_who_comes,
    show_mine,
    move_ladder,
    hang_picture,
    wish_on_page,
    show_shut,
    list_rows,
    fall,
    feed,
    raw,
]
product = Product(
    name="orchard",
    title="Orchard",
    summary="Trees.",
    routes=routes,
    dependencies={"tree": tree_in_path},
    stores=[trees],
    grants={"admin": ["trees:fell", "trees:see_all"], "user": ["trees:see"]},
)
