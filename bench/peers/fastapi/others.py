"""Notes, the shop's list and pictures, signing in."""

import asyncio
import json
import os
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from secrets import token_urlsafe
from typing import Annotated, Any, Literal
from uuid import uuid4

import config
import nh3
from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from auth import Admin, Signed, redis, token_for
from beanie import UpdateResponse
from fastapi import APIRouter, Request, Response
from markdown_it import MarkdownIt
from models import Audit, Note, Picture, Product, Revision, Session, Shelf, User, now, transaction
from problems import Full, Problem
from pydantic import BaseModel, ConfigDict, Field
from pymongo.asynchronous.client_session import AsyncClientSession
from tasks import Form, Label, Limit, Title

MOST_NOTES = 10_000
EXCERPT = 200
LARGEST = 20_000_000
PIECE = 2**20
SESSION = timedelta(days=30)
markdown = MarkdownIt("commonmark", {"html": False})
hasher = PasswordHasher(memory_cost=19_456, time_cost=2, parallelism=1)
nobodys = hasher.hash(token_urlsafe())  # so that it takes as long where there is nobody
router = APIRouter(prefix="/v1")


# ---- notes


class NewNote(Form):
    title: Title
    body: Annotated[str, Field(max_length=100_000)] = ""
    tags: Annotated[list[Label], Field(max_length=20)] = []


class NoteView(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    id: str
    title: str
    excerpt: str
    tags: list[str]
    pinned: bool
    state: str
    trashed_at: datetime | None
    created_at: datetime
    updated_at: datetime
    version: int
    body: str
    html: str


@router.post("/notes", status_code=201)
async def write_note(form: NewNote, actor: Signed, response: Response) -> NoteView:
    tags = list(dict.fromkeys(form.tags))

    async def work(session: AsyncClientSession) -> Note:
        step = {"$inc": {"sequence": 1, "notes": 1, "version": 1}, "$set": {"updated_at": now()}}
        shelf: Any = await Shelf.find_one({"_id": actor.id}, session=session).update_one(
            step, session=session, response_type=UpdateResponse.NEW_DOCUMENT
        )
        if shelf is None:
            shelf = await Shelf(id=actor.id, sequence=1, notes=1).insert(session=session)
        if shelf.notes > MOST_NOTES:
            raise Full(MOST_NOTES)
        made = Note(owner=actor.id, title=form.title, body=form.body, tags=tags, sequence=shelf.sequence)
        await made.insert(session=session)
        kept = Revision(note_id=made.id, owner=actor.id, number=1, title=made.title, body=made.body, tags=tags)
        await kept.insert(session=session)
        return made

    note = await transaction(work)
    response.headers.update({"Location": f"/v1/notes/{note.id}", "ETag": '"1"'})
    html = nh3.clean(markdown.render(note.body), link_rel="noopener noreferrer nofollow")
    return NoteView(**note.model_dump(include=set(NoteView.model_fields)), excerpt=note.body[:EXCERPT], html=html)


# ---- the shop


@router.get("/shop/products")
async def list_products(limit: Limit = 20) -> Response:
    key = f"products:-created_at:{limit}"
    text = await redis.get(key)
    if text is None:
        order: Any = [("created_at", -1), ("_id", -1)]
        found = await Product.find({"availability": "published"}).sort(order).limit(limit + 1).to_list()
        items = [each.model_dump(exclude={"availability", "created_at", "revision_id"}) for each in found[:limit]]
        following = None
        if len(found) > limit:
            last = found[limit - 1]
            following = urlsafe_b64encode(json.dumps([last.created_at.isoformat(), last.id]).encode()).decode()
        text = json.dumps({"items": items, "next": following}, ensure_ascii=False, separators=(",", ":"))
        await redis.set(key, text, ex=300)
    return Response(text, media_type="application/json")


class PictureView(BaseModel):
    id: str
    file: str
    width: int
    height: int
    url: str
    jpeg_url: str
    sizes: dict[str, str]


@router.post("/shop/pictures", status_code=201)
async def add_picture(request: Request, actor: Admin, response: Response) -> PictureView:
    if request.headers.get("content-type") != "image/png":
        raise Problem(415, "unsupported_media", "Send a picture.")
    arriving = Path(config.FILES) / f"arriving-{uuid4().hex}"
    try:
        digest = await arrived(request.stream(), arriving)
        picture: Any = await Picture.find_one({"_id": digest}).update_one(
            {"$set": {"used_at": now(), "updated_at": now()}, "$inc": {"version": 1}},
            response_type=UpdateResponse.NEW_DOCUMENT,
        )
        if picture is None:
            width, height = measured(arriving)
            file = f"{digest}.png"
            os.replace(arriving, Path(config.FILES) / file)
            sizes = dict.fromkeys(("320", "640", "1280"), file)
            picture = Picture(id=digest, file=file, width=width, height=height, sizes=sizes, by=actor.id, used_at=now())
            await picture.insert()
    finally:
        arriving.unlink(missing_ok=True)
    response.headers["Location"] = f"/v1/shop/pictures/{digest}"
    url = f"/files/{picture.file}"
    return PictureView(
        id=digest,
        file=picture.file,
        width=picture.width,
        height=picture.height,
        url=url,
        jpeg_url=url,
        sizes={width: f"/files/{file}" for width, file in picture.sizes.items()},
    )


async def arrived(pieces: AsyncIterator[bytes], path: Path) -> str:
    """Piece by piece to the disk, counted and hashed on its way; returns the digest."""
    digest, size, held = sha256(), 0, bytearray()
    with open(path, "wb") as file:

        def keep(content: bytes) -> None:
            digest.update(content)
            file.write(content)

        async for piece in pieces:
            size += len(piece)
            if size > LARGEST:
                raise Problem(413, "too_large", "That is too large.")
            held += piece
            if len(held) >= PIECE:
                await asyncio.to_thread(keep, bytes(held))
                held.clear()
        await asyncio.to_thread(keep, bytes(held))
    return digest.hexdigest()


def measured(path: Path) -> tuple[int, int]:
    with open(path, "rb") as file:
        head = file.read(24)
    if head[:8] != b"\x89PNG\r\n\x1a\n":
        raise Problem(415, "unsupported_media", "That is no picture.")
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


# ---- signing in


class SignIn(Form):
    email: Annotated[str, Field(max_length=320)]
    password: Annotated[str, Field(max_length=1024)]
    session: Literal["token"] = "token"


class Tokens(BaseModel):
    access_token: str
    refresh_token: str
    token_type: str = "Bearer"
    expires_in: int = 600


@router.post("/accounts/sign-in")
async def sign_in(form: SignIn, request: Request, response: Response) -> Tokens:
    email = form.email.strip().lower()
    tries = f"tries:{email}"
    if int(await redis.get(tries) or 0) >= 10:
        raise Problem(429, "too_many_tries", "Too many tries.")
    user = await User.find_one({"email": email})
    known = await asyncio.to_thread(is_it, user.password if user else nobodys, form.password)
    if user is None or not known:
        async with redis.pipeline() as pipe:
            await pipe.incr(tries).expire(tries, 900).execute()
        raise Problem(401, "wrong_credentials", "Address or password is wrong.")
    if user.disabled:
        raise Problem(403, "account_disabled", "This account is disabled.")
    secret = token_urlsafe(48)
    opened = Session(
        account=user.id,
        current=sha256(secret.encode()).digest(),
        methods=["pwd"],
        user_agent=request.headers.get("user-agent", ""),
        address=request.client.host if request.client else "",
        ends_at=now() + SESSION,
    )

    async def work(session: AsyncClientSession) -> None:
        await opened.insert(session=session)
        told = Audit(kind="accounts.signed_in", actor=user.id, about=user.id, data={"session": opened.id})
        await told.insert(session=session)

    await transaction(work)
    response.headers["Cache-Control"] = "no-store"
    return Tokens(access_token=token_for(user, opened.id), refresh_token=f"rt1_{opened.id}_{secret}")


def is_it(encoded: str, password: str) -> bool:
    try:
        return hasher.verify(encoded, password)
    except VerifyMismatchError:
        return False
