"""Work without a request: the relay of what was committed, and the jobs."""

import asyncio
import logging
from typing import Any

import config
from arq import create_pool, run_worker
from arq.connections import RedisSettings
from models import Letter, Member, Outbox, Reminder, Task, User, client, connect, now, transaction
from pymongo.asynchronous.client_session import AsyncClientSession

log = logging.getLogger("worker")
AT_ONCE = 16


# ---- the relay: what was committed in the outbox goes to the queue


async def relay(redis: Any) -> None:
    async with await Outbox.get_pymongo_collection().watch([{"$match": {"operationType": "insert"}}]) as changes:
        async for left in Outbox.find_all().sort("_id"):
            await _pass_on(redis, left.id, left.name, left.payload)
        async for change in changes:
            row = change["fullDocument"]
            await _pass_on(redis, row["_id"], row["name"], row["payload"])


async def _pass_on(redis: Any, id: str, name: str, payload: dict[str, Any]) -> None:
    await redis.enqueue_job(name, **payload, _job_id=id)
    await Outbox.get_pymongo_collection().delete_one({"_id": id})


# ---- the work


async def reminder_past_due(context: dict[str, Any], reminder_id: str) -> None:
    """Its letter and the note that it is sent: both or neither, so it is written once."""

    async def work(session: AsyncClientSession) -> Letter | None:
        wanted = {"_id": reminder_id, "state": "waiting", "at": {"$lte": now()}}
        reminder = await Reminder.find_one(wanted, session=session)
        if reminder is None:
            return None
        task = await Task.find_one({"_id": reminder.task_id, "status": "open"}, session=session)
        sees = await Member.get(f"{reminder.project_id}:{reminder.user_id}", session=session)
        user = await User.get(reminder.user_id, session=session)
        became = {"state": "sent", "sent_at": now()} if task and sees and user else {"state": "dropped"}
        await Reminder.find_one({"_id": reminder_id, "state": "waiting"}, session=session).update_one(
            {"$set": {**became, "updated_at": now()}, "$inc": {"version": 1}}, session=session
        )
        if task is None or user is None or sees is None:
            return None
        data = {"title": task.title, "due": task.due, "task_id": task.id}
        letter = Letter(to=user.email, template="reminder", data=data)
        return await letter.insert(session=session)

    letter = await transaction(work)
    if letter is not None:
        await context["redis"].enqueue_job("deliver_letter", letter.id, _job_id=letter.id)


async def deliver_letter(context: dict[str, Any], letter_id: str) -> None:
    """There is nobody to write to here: the letter is marked, as our inbox of development keeps it."""
    step = {"$set": {"state": "sent", "updated_at": now()}}
    await Letter.find_one({"_id": letter_id, "state": "waiting"}).update_one(step)


# ---- the process


async def startup(context: dict[str, Any]) -> None:
    await connect()
    context["pool"] = await create_pool(RedisSettings.from_dsn(config.REDIS))
    context["relay"] = asyncio.create_task(relay(context["pool"]))
    context["relay"].add_done_callback(
        lambda done: done.cancelled() or log.error("relay ended", exc_info=done.exception())
    )


async def shutdown(context: dict[str, Any]) -> None:
    context["relay"].cancel()
    await context["pool"].aclose()
    await client.close()


class WorkerSettings:
    functions = [reminder_past_due, deliver_letter]
    redis_settings = RedisSettings.from_dsn(config.REDIS)
    on_startup, on_shutdown = startup, shutdown
    max_jobs, max_tries, keep_result = AT_ONCE, 10, 0
    poll_delay = 0.02  # seconds; the default of half a second would be most of what a job takes


if __name__ == "__main__":
    run_worker(WorkerSettings)  # type: ignore[arg-type]
