"""Accounts: made by oneself or by an admin, changed, disabled; somebody always remains who may do that."""

from typing import Any

from msingi.kit import revocations
from msingi.kit.auth import Actor
from msingi.kit.errors import AlreadyExists, Stale
from msingi.kit.events import emit
from msingi.kit.search import words_of
from msingi.kit.unit import atomic, guarded
from msingi.products.accounts import hashing, rules
from msingi.products.accounts.contract import PasswordChanged, UserDisabled, UserRegistered
from msingi.products.accounts.models.people import ADMINS, Account, Guard, accounts, guards
from msingi.products.accounts.passwords import check_password
from msingi.products.accounts.schemas.people import NewUser, PasswordChange, ProfilePatch, Registration, UserPatch


async def register(form: Registration) -> Account:
    """Make one's own account. Raises EmailTaken, WeakPassword, Busy."""
    account = await _drawn_up(form)
    try:
        return await _add(account)
    except AlreadyExists:
        raise rules.people.EmailTaken from None


async def add_user(form: NewUser) -> Account:
    """Make somebody else's account, perhaps an admin's. Raises as `register` does."""
    account = await _drawn_up(form)
    account.roles = rules.people.roles_of(form.roles)
    try:
        return await (_add_admin if rules.people.is_acting_admin(account) else _add)(account)
    except AlreadyExists:
        raise rules.people.EmailTaken from None


async def _drawn_up(form: Registration | NewUser) -> Account:
    email, name = rules.people.email_of(form.email), form.name.strip()
    check_password(form.password, email=email, name=name)
    return Account(email=email, name=name, words=words_of(name, email), password=await hashing.hashed(form.password))


@guarded
async def _add(account: Account) -> Account:
    return await accounts.add(account, tells=[UserRegistered(user_id=account.id)])


@atomic
async def _add_admin(account: Account) -> Account:
    await accounts.add(account)
    await let_in(account)
    await emit(UserRegistered(user_id=account.id))
    return account


async def rename(account: Account, patch: ProfilePatch, if_match: int | None) -> Account:
    """Change one's own name. Raises Stale if it is not the version that was meant."""
    if if_match not in (None, account.version):
        raise Stale
    changed = rules.people.changes_of(account, _tidy(patch.given()))
    return await _rename(account, changed["name"], if_match) if changed else account


@guarded
async def _rename(account: Account, name: str, if_match: int | None) -> Account:
    meant = {"version": if_match} if if_match else None
    return await accounts.change(account.id, {"$set": {"name": name, "words": words_of(name, account.email)}}, meant)


@atomic
async def edit_user(user_id: str, patch: UserPatch, if_match: int | None) -> Account:
    """Change somebody's name, roles, or whether they may come in at all. Raises LastAdmin, Stale, NotFound.

    Their tokens with the old roles stop; if they are disabled, their sessions do too.
    """
    account = await accounts.get(user_id)
    if if_match not in (None, account.version):
        raise Stale
    changed = rules.people.changes_of(account, _tidy(patch.given()))
    if not changed:
        return account
    step: dict[str, int] = {}
    if "roles" in changed or "disabled" in changed:
        step["token_version"] = 1
    if changed.get("disabled"):
        step["epoch"] = 1
        await emit(UserDisabled(user_id=user_id))
    if "name" in changed:
        changed["words"] = words_of(changed["name"], account.email)
    update: dict[str, Any] = {"$set": changed, **({"$inc": step} if step else {})}
    after = await accounts.change(user_id, update, {"version": account.version})
    if rules.people.is_acting_admin(after) != rules.people.is_acting_admin(account):
        await (let_in if rules.people.is_acting_admin(after) else _let_go)(after)
    if step:
        await revocations.revoke(actor=user_id, below=after.token_version)
    return after


def _tidy(given: dict[str, Any]) -> dict[str, Any]:
    if "name" in given:
        given["name"] = given["name"].strip()
    if "roles" in given:
        given["roles"] = rules.people.roles_of(given["roles"])
    return given


async def change_password(actor: Actor, form: PasswordChange) -> Account:
    """Change one's password, which ends all of one's sessions. Raises WrongPassword, WeakPassword, Busy.

    Of two at the same moment with the same current password one succeeds; the other is told Stale.
    """
    account = await accounts.get(actor.id)
    if not await hashing.fits(account.password, form.current_password):
        raise rules.people.WrongPassword
    check_password(form.new_password, email=account.email, name=account.name, pointer="/new_password")
    return await _set_password(account, await hashing.hashed(form.new_password))


@atomic
async def _set_password(account: Account, password: str) -> Account:
    update = {"$set": {"password": password}, "$inc": {"token_version": 1, "epoch": 1}}
    after = await accounts.change(account.id, update, {"password": account.password})
    await emit(PasswordChanged(user_id=account.id))
    await revocations.revoke(actor=account.id, below=after.token_version)
    return after


@guarded
async def hash_anew(account: Account, password: str) -> None:
    """Keep the same password at today's costs."""
    await accounts.change(account.id, {"$set": {"password": password}}, {"password": account.password})


# ---- who looks after the others


@atomic
async def let_in(account: Account) -> None:
    """Note an account among the admins."""
    await guards.change(ADMINS, {"$addToSet": {"ids": account.id}})


async def _let_go(account: Account) -> None:
    """Two admins who remove each other both change this one document, so one of them comes second."""
    others = {"ids": account.id, "ids.1": {"$exists": True}}
    await guards.change(ADMINS, {"$pull": {"ids": account.id}}, others, rules.people.LastAdmin)


async def guard_admins() -> None:
    """Have the list of admins from the start: made of those there are, once for all processes."""
    if await guards.exists({"_id": ADMINS}):
        return
    found = await accounts.many({"roles": "admin", "disabled": False})
    try:
        await _add_guard([each.id for each in found])
    except AlreadyExists:
        return


@guarded
async def _add_guard(ids: list[str]) -> None:
    await guards.add(Guard(id=ADMINS, ids=ids))
