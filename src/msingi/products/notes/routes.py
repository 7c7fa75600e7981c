"""The HTTP face: the path fetches what the actor may see, the handler hands it on."""

from datetime import datetime
from typing import Annotated, Any

from litestar.params import Parameter, QueryParameter
from litestar.response import Stream

from msingi.kit.auth import Actor
from msingi.kit.db import Page, Paging, Where
from msingi.kit.http import Body, Filters, Given, Path, Query, delete, get, patch, post, put
from msingi.kit.replies import KitResponse, created
from msingi.products.notes import actions, exports, queries, rules
from msingi.products.notes.models import Note
from msingi.products.notes.schemas import (
    ChangesView,
    DiffView,
    NewNote,
    NoteItem,
    NotePatch,
    NoteView,
    Restoration,
    RevisionItem,
    RevisionView,
    TagsView,
)

FILTERS = Filters(pinned=bool, tag=("tags", str), created_at=datetime, updated_at=datetime)
CHANGED = [rules.NoteChanged, rules.NoteInTrash]
Limit = Annotated[int, Parameter(ge=1, le=500)]
Version = Annotated[int, Parameter(ge=1)]


async def note_in_path(note_id: Path[str], actor: Given[Actor]) -> Note:
    return await queries.note(note_id, actor)


@get("/", filters=FILTERS, also=("q", "state"))
async def list_notes(
    actor: Given[Actor],
    page: Given[Paging],
    where: Given[Where],
    in_state: Annotated[str, QueryParameter(name="state")] = "active",
    q: Query[str] = "",
) -> Page[NoteItem]:
    """One's notes, newest first. `state`: active, archived, trashed or all. `q`: whole words, all of them."""
    return await queries.notes(actor, in_state, where, q, page)


@post("/")
async def write_note(data: Body[NewNote], actor: Given[Actor]) -> KitResponse[NoteView]:
    """Write a note."""
    note = await actions.write(data, actor)
    return created(await queries.shown(note), f"/v1/notes/{note.id}")


@get("/tags")
async def list_tags(actor: Given[Actor]) -> TagsView:
    """The tags in use, and how many notes have each."""
    return TagsView(items=await queries.tags(actor))


@get("/changes", problems=[rules.ResyncRequired])
async def list_changes(actor: Given[Actor], cursor: Query[str | None] = None, limit: Query[Limit] = 100) -> ChangesView:
    """What changed since the cursor of the last asking; without one, all there is."""
    return await queries.changes(actor, cursor, limit)


@get("/export")
async def export_notes(actor: Given[Actor], format: Query[str] = "zip") -> Stream:
    """Everything, to take away: a `zip` of Markdown files, or one `json`."""
    if format not in ("zip", "json"):
        raise rules.BadExportFormat(given=format)
    write: Any = exports.as_zip if format == "zip" else exports.as_json
    headers = {"Content-Disposition": f'attachment; filename="notes.{format}"'}
    return Stream(write(queries.everything(actor)), media_type=f"application/{format}", headers=headers)


@get("/{note_id:str}")
async def show_note(note: Given[Note]) -> NoteView:
    """One note."""
    return await queries.shown(note)


@patch("/{note_id:str}", problems=CHANGED)
async def edit_note(note: Given[Note], data: Body[NotePatch], if_match: Given[int | None]) -> NoteView:
    """Change title, body or tags. With `If-Match`, only if nobody else did meanwhile."""
    return await queries.shown(await actions.edit(note, data, if_match))


@delete("/{note_id:str}", problems=[rules.NoteChanged])
async def remove_note(note: Given[Note], if_match: Given[int | None]) -> None:
    """Remove a note for good, with its revisions."""
    await actions.remove(note, if_match)


@put("/{note_id:str}/pin", problems=CHANGED)
async def pin_note(note: Given[Note], if_match: Given[int | None]) -> NoteView:
    """Pin a note."""
    return await queries.shown(await actions.pin(note, True, if_match))


@delete("/{note_id:str}/pin", status_code=200, problems=CHANGED)
async def unpin_note(note: Given[Note], if_match: Given[int | None]) -> NoteView:
    """Unpin a note."""
    return await queries.shown(await actions.pin(note, False, if_match))


@put("/{note_id:str}/archive", problems=CHANGED)
async def archive_note(note: Given[Note], if_match: Given[int | None]) -> NoteView:
    """Put a note in the archive."""
    return await queries.shown(await actions.archive(note, True, if_match))


@delete("/{note_id:str}/archive", status_code=200, problems=CHANGED)
async def unarchive_note(note: Given[Note], if_match: Given[int | None]) -> NoteView:
    """Take a note out of the archive."""
    return await queries.shown(await actions.archive(note, False, if_match))


@put("/{note_id:str}/trash", problems=[rules.NoteChanged])
async def trash_note(note: Given[Note], if_match: Given[int | None]) -> NoteView:
    """Put a note in the trash, where it stays for 30 days."""
    return await queries.shown(await actions.trash(note, if_match))


@delete("/{note_id:str}/trash", status_code=200, problems=[rules.NoteChanged])
async def restore_from_trash(note: Given[Note], if_match: Given[int | None]) -> NoteView:
    """Take a note out of the trash, as it was before."""
    return await queries.shown(await actions.untrash(note, if_match))


@get("/{note_id:str}/revisions")
async def list_revisions(note: Given[Note], page: Given[Paging]) -> Page[RevisionItem]:
    """What was ever saved of a note, newest first."""
    return await queries.revisions(note, page)


@get("/{note_id:str}/revisions/{version:int}")
async def show_revision(note: Given[Note], version: Path[int]) -> RevisionView:
    """One revision whole."""
    return queries.shown_revision(await queries.revision(note, version))


@get("/{note_id:str}/diff")
async def show_diff(
    note: Given[Note],
    before: Annotated[Version | None, QueryParameter(name="from")] = None,
    after: Annotated[Version | None, QueryParameter(name="to")] = None,
) -> DiffView:
    """What changed between two revisions: the newest and the one before it, unless `from` and `to` say others."""
    return await queries.diff(note, before, after)


@post("/{note_id:str}/restorations", problems=CHANGED)
async def restore_note(note: Given[Note], data: Body[Restoration], if_match: Given[int | None]) -> NoteView:
    """Save an old revision anew; the history goes on."""
    return await queries.shown(await actions.restore(note, data.version, if_match))


routes = [
    list_notes,
    write_note,
    list_tags,
    list_changes,
    export_notes,
    show_note,
    edit_note,
    remove_note,
    pin_note,
    unpin_note,
    archive_note,
    unarchive_note,
    trash_note,
    restore_from_trash,
    list_revisions,
    show_revision,
    show_diff,
    restore_note,
]
