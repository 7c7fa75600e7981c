"""Who asks."""

import time
from typing import Annotated
from uuid import uuid4

import config
import jwt
from cachetools import LRUCache
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from fastapi import Depends, Request
from models import User
from problems import Forbidden, Problem, SignInFirst
from pydantic import BaseModel
from redis.asyncio import Redis

private_key = load_pem_private_key(config.PRIVATE_KEY.encode(), None)
public_key = load_pem_public_key(config.PUBLIC_KEY.encode())
redis: Redis = Redis.from_url(config.REDIS, decode_responses=True, max_connections=32)


class Actor(BaseModel):
    id: str
    session: str
    roles: list[str]
    expires_at: int


_known: LRUCache[str, Actor] = LRUCache(10_000)


def actor_of(token: str) -> Actor:
    known = _known.get(token)
    if known is None:
        try:
            claims = jwt.decode(
                token,
                public_key,  # type: ignore[arg-type]
                algorithms=["EdDSA"],
                issuer=config.ISSUER,
                audience=config.AUDIENCE,
                options={"require": ["exp", "iat", "nbf", "sub", "sid"]},
            )
        except jwt.PyJWTError:
            raise SignInFirst from None
        known = Actor(id=claims["sub"], session=claims["sid"], roles=claims.get("roles", []), expires_at=claims["exp"])
        _known[token] = known
    if known.expires_at <= time.time():
        raise SignInFirst
    return known


def token_for(user: User, session: str) -> str:
    at = int(time.time())
    claims = {
        "iss": config.ISSUER,
        "aud": config.AUDIENCE,
        "sub": user.id,
        "sid": session,
        "jti": uuid4().hex,
        "iat": at,
        "nbf": at,
        "exp": at + 600,
        "amr": ["pwd"],
        "auth_time": at,
        "roles": user.roles,
        "name": user.name,
    }
    return jwt.encode(claims, private_key, "EdDSA", {"typ": "at+jwt", "kid": config.KEY_ID})  # type: ignore[arg-type]


def identified(request: Request) -> Actor | None:
    """Who asks, if they say so; a wrong token is refused also where none is needed."""
    header = request.headers.get("authorization")
    if header is None:
        return None
    if not header.startswith("Bearer "):
        raise SignInFirst
    return actor_of(header[7:])


async def limited(request: Request, actor: Annotated[Actor | None, Depends(identified)]) -> None:
    """So many requests in a minute of the clock, over all processes."""
    who = actor.id if actor else request.client.host if request.client else ""
    key = f"limit:{who}:{int(time.time()) // 60}"
    async with redis.pipeline(transaction=False) as pipe:
        count, _ = await pipe.incr(key).expire(key, 120).execute()
    if count > config.LIMIT:
        raise Problem(429, "quota_exceeded", "Too many requests.")


async def signed_in(actor: Annotated[Actor | None, Depends(identified)]) -> Actor:
    if actor is None:
        raise SignInFirst
    return actor


Signed = Annotated[Actor, Depends(signed_in)]


async def an_admin(actor: Signed) -> Actor:
    if "admin" not in actor.roles:
        raise Forbidden
    return actor


Admin = Annotated[Actor, Depends(an_admin)]
