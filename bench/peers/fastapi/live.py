"""Socket.IO: websocket only, so that several processes behind one port need no sticky routing."""

import re
from typing import Any

import config
import socketio
from auth import actor_of
from models import Member, Task
from problems import Problem

TOPIC = re.compile(r"tasks/projects/([A-Za-z0-9_.~-]{1,64})")
sockets = socketio.AsyncServer(
    async_mode="asgi",
    transports=["websocket"],
    # A channel of its own: what is published reaches all databases of a Redis.
    client_manager=socketio.AsyncRedisManager(config.REDIS, channel=config.DATABASE),
    max_http_buffer_size=64_000,
    ping_interval=20,
    ping_timeout=20,
)


@sockets.event
async def connect(sid: str, environ: Any, auth: Any) -> None:
    try:
        actor = actor_of(str((auth or {}).get("token")))
    except Problem as problem:
        raise socketio.exceptions.ConnectionRefusedError(problem.code) from None
    await sockets.save_session(sid, {"actor": actor.id})


@sockets.event
async def subscribe(sid: str, given: Any) -> dict[str, Any]:
    topic = str(given.get("topic")) if isinstance(given, dict) else ""
    found = TOPIC.fullmatch(topic)
    actor = (await sockets.get_session(sid))["actor"]
    if not found or not await Member.get(f"{found[1]}:{actor}"):
        return {"error": {"code": "no_such_topic", "status": 404}}
    await sockets.enter_room(sid, topic)
    return {"ok": True}


@sockets.event
async def unsubscribe(sid: str, given: Any) -> dict[str, Any]:
    await sockets.leave_room(sid, str(given.get("topic")))
    return {"ok": True}


async def tell(task: Task, kind: str) -> None:
    topic = f"tasks/projects/{task.project_id}"
    message = {"topic": topic, "kind": kind, "data": {"task_id": task.id, "version": task.version}}
    await sockets.emit("message", message, room=topic)
