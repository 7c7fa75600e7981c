"""Work without a request: reminders by the clock, and what follows from things that happened."""

import structlog

from msingi.kit.events import on
from msingi.kit.jobs import cron, job
from msingi.products.accounts.contract import UserErased, known_people
from msingi.products.tasks.actions import members, projects, reminders
from msingi.products.tasks.contract import MemberRemoved, ProjectRemoved, ReminderPastDue

log = structlog.get_logger("tasks")

TOGETHER = 50  # reminders of one transaction


@cron("* * * * *")
async def remind() -> None:
    """Write the letters whose time has come, many in a transaction. Run twice, or at once, it writes each once."""
    more = True
    while more and (found := await reminders.due()):
        known = await known_people([each.user_id for each in found])
        if known is None:
            log.warning("reminders_wait", reason="accounts is not running here", waiting=len(found))
            return
        people = {each.id: each for each in known}
        for start in range(0, len(found), TOGETHER):
            await reminders.send([each.id for each in found[start : start + TOGETHER]], people)
        more = len(found) == reminders.AT_ONCE  # what becomes due meanwhile is asked for anew


@job(unique=lambda: "now")
async def remind_now() -> None:
    await remind()


@on(ReminderPastDue)
async def remind_of_what_is_past(event: ReminderPastDue) -> None:
    await remind_now.later()


@job(retries=10, timeout=120, unique=lambda project_id: project_id)
async def clear_project(project_id: str) -> None:
    await projects.clear(project_id)


@on(ProjectRemoved)
async def clear_removed_project(event: ProjectRemoved) -> None:
    await clear_project.later(event.project_id)


@on(MemberRemoved)
async def take_removed_member_off_tasks(event: MemberRemoved) -> None:
    await members.take_off_again(event.project_id, event.user_id)


@job(retries=10, timeout=120, unique=lambda user_id: user_id)
async def forget_person(user_id: str) -> None:
    await members.erase(user_id)
    await reminders.forget(user_id)


@on(UserErased)
async def forget_erased_user(event: UserErased) -> None:
    await forget_person.later(event.user_id)
