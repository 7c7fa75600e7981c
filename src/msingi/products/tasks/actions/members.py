"""Who is in a project, and as what."""

from msingi.kit.again import until_it_fits
from msingi.kit.errors import allow
from msingi.kit.events import emit
from msingi.kit.unit import atomic, guarded
from msingi.products.accounts.contract import known_people
from msingi.products.tasks import queries, rules
from msingi.products.tasks.actions.projects import close, hand_over, member_of
from msingi.products.tasks.actions.telling import tell_members_changed
from msingi.products.tasks.contract import MemberRemoved
from msingi.products.tasks.models import Member, Role, members, projects, reminders, tasks


async def let_in(by: Member, user_id: str, role: Role, if_match: int | None) -> Member:
    """Add somebody to a project, or give them another role."""
    allow(rules.may_manage(by))
    await _check_exists(user_id)

    async def write() -> Member:
        known = await members.find({"_id": queries.member_id(by.project_id, user_id)})
        if known is None:
            return await _add(by.project_id, user_id, role)
        rules.check_owner_stays(known.role)
        rules.check_version(known, if_match)
        return known if known.role == role else await _change_role(known, role)

    return await until_it_fits(write, if_match)


async def _check_exists(user_id: str) -> None:
    """Raise NoSuchUser for an id that nobody has, as far as anybody here can tell."""
    rules.check_user_id(user_id)
    if await known_people([user_id]) == []:
        raise rules.NoSuchUser


@guarded
async def _add(project_id: str, user_id: str, role: Role) -> Member:
    await _check_room(project_id)
    await tell_members_changed(project_id, user_id)
    return await members.add(member_of(project_id, user_id, role))


async def _check_room(project_id: str) -> None:
    if await members.count({"project_id": project_id}, limit=rules.MOST_MEMBERS) >= rules.MOST_MEMBERS:
        raise rules.Full(most=rules.MOST_MEMBERS)


@guarded
async def _change_role(known: Member, role: Role) -> Member:
    await tell_members_changed(known.project_id, known.user_id)
    return await members.change(known.id, {"$set": {"role": role}}, when={"version": known.version})


@atomic
async def remove(by: Member, user_id: str, if_match: int | None) -> None:
    """Remove a member, or leave."""
    allow(rules.may_remove_member(by, user_id))
    gone = await members.get(queries.member_id(by.project_id, user_id))
    rules.check_owner_stays(gone.role)
    rules.check_version(gone, if_match)
    await _take_out(gone)


async def _take_out(gone: Member) -> None:
    await members.remove(gone)
    await take_off_tasks(gone.project_id, gone.user_id)
    await reminders.remove_many({"project_id": gone.project_id, "user_id": gone.user_id})
    await emit(MemberRemoved(project_id=gone.project_id, user_id=gone.user_id))
    await tell_members_changed(gone.project_id, gone.user_id)


async def take_off_tasks(project_id: str, user_id: str) -> None:
    """Nobody who is not in a project has its tasks. Belongs in an action."""
    await tasks.change_many({"project_id": project_id, "assignees": user_id}, {"$pull": {"assignees": user_id}})


@guarded
async def take_off_again(project_id: str, user_id: str) -> None:
    """The same once more, for a task that was given to somebody while they were being removed."""
    if not await members.exists({"_id": queries.member_id(project_id, user_id)}):
        await take_off_tasks(project_id, user_id)


async def erase(user_id: str) -> None:
    """Take a person who is no more out of everything. It may be done twice, or go on where it stopped."""
    async for each in members.each({"user_id": user_id}):
        if each.role == "owner":
            await _pass_on(each)
        else:
            await _erase_one(each)


@atomic
async def _erase_one(gone: Member) -> None:
    await _take_out(await members.get(gone.id))


async def _pass_on(owner: Member) -> None:
    """The project of somebody who is no more goes to the next in line, or, if they were alone, away."""
    project = await projects.find({"_id": owner.project_id})
    if project is None:
        return
    others = await members.many({"project_id": project.id, "user_id": {"$ne": owner.user_id}})
    heir = rules.heir(others)
    if heir is None:
        await close(project)
    else:
        await hand_over(project, heir)
        await take_off_again(project.id, owner.user_id)
