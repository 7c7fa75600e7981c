"""What goes over the wire: forms come in, views go out."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from msingi.kit.db import Form, View
from msingi.products.notes.models import State, Tag

Title = Annotated[str, Meta(min_length=1, max_length=200, examples=["Hen house"])]
Body = Annotated[str, Meta(max_length=100_000, examples=["Buy **wire** and nails."])]
Tags = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=50, pattern="^[^,]*$")]],
    Meta(max_length=20, examples=[["farm", "to-buy"]]),
]
EXCERPT = 200


class NewNote(Form):
    title: Title
    body: Body = ""
    tags: Tags = []


class NotePatch(Form):
    title: Title | UnsetType = UNSET
    body: Body | UnsetType = UNSET
    tags: Tags | UnsetType = UNSET


class Restoration(Form):
    """Which revision to bring back."""

    version: Annotated[int, Meta(ge=1, examples=[1])]


class NoteItem(View):
    """A note in a list."""

    id: str
    title: str
    excerpt: str
    tags: list[str]
    pinned: bool
    state: State
    trashed_at: datetime | None
    created_at: datetime
    updated_at: datetime
    version: int


class NoteView(NoteItem):
    """A note whole; `html` is its body rendered and made safe."""

    body: str
    html: str


class RevisionItem(View):
    version: int
    title: str
    created_at: datetime


class RevisionView(RevisionItem):
    body: str
    tags: list[str]


class Difference(Struct, rename={"before": "from", "after": "to"}):
    """What something was and what it became."""

    before: str
    after: str


class TagsDifference(Struct, rename={"before": "from", "after": "to"}):
    """The tags before and after."""

    before: list[str]
    after: list[str]


class DiffView(Struct, rename={"before": "from", "after": "to"}):
    """What changed between two revisions; `body` is a unified diff."""

    before: int
    after: int
    title: Difference
    tags: TagsDifference
    body: str


class TagsView(View):
    items: list[Tag]
    next: None = None


class Saved(View, kw_only=True):
    """A note that was made or changed."""

    change: Literal["saved"] = "saved"
    id: str
    version: int
    note: NoteView


class Deleted(View, kw_only=True):
    """A note that was removed for good."""

    change: Literal["deleted"] = "deleted"
    id: str
    version: int
    deleted_at: datetime
    note: None = None


class ChangesView(View):
    """Part of what changed since a cursor, and the cursor to go on from."""

    items: list[dict[str, object]]
    cursor: str
    more: bool
