"""Accounts: made by oneself or by an admin, changed, disabled; somebody always remains who may do that."""

from typing import Any

from msingi.kit import audit, revocations
from msingi.kit.auth import Actor
from msingi.kit.errors import AlreadyExists, Stale
from msingi.kit.events import emit
from msingi.kit.unit import atomic, guarded
from msingi.products.accounts import foreign_hashes, hashing, queries, rules
from msingi.products.accounts.actions import organisations, tries
from msingi.products.accounts.contract import PasswordChanged, UserDisabled, UserRegistered
from msingi.products.accounts.models.people import ADMINS, Account, Guard, accounts, guards, words_to_find
from msingi.products.accounts.passwords import check_password
from msingi.products.accounts.schemas.people import (
    BroughtUser,
    NewUser,
    PasswordChange,
    ProfilePatch,
    Registration,
    UserPatch,
)


async def register(form: Registration, language: str = "en") -> Account:
    """Make one's own account. Raises EmailTaken, WeakPassword, Busy."""
    account = await drawn_up(form)
    account.language = language
    try:
        return await add(account)
    except AlreadyExists:
        raise rules.people.EmailTaken from None


async def add_user(form: NewUser, actor: Actor | None = None) -> Account:
    """Make somebody else's account, perhaps an admin's; without an actor the house itself does.

    Raises UnknownRole, AboveYou, and what `register` does.
    """
    account = await drawn_up(form)
    account.roles = rules.people.roles_of(form.roles)
    rules.roles.check_roles(account.roles, await queries.roles.role_names())
    rules.roles.check_reach(actor, *account.roles)
    try:
        return await add_with_roles(account, actor)
    except AlreadyExists:
        raise rules.people.EmailTaken from None


async def import_user(form: BroughtUser, actor: Actor | None = None) -> Account:
    """Make the account of somebody from another system, who keeps their password; a new hash of it is made when they
    sign in first.

    Raises InvalidFields for a hash that cannot be verified, EmailTaken. What the password is worth nobody knows.
    """
    email, name = rules.people.email_of(form.email), form.name.strip()
    account = Account(
        email=email,
        email_verified=form.email_verified,
        name=name,
        words=words_to_find(name, email),
        password=foreign_hashes.check(form.password_hash),
    )
    try:
        return await add_with_roles(account, actor)
    except AlreadyExists:
        raise rules.people.EmailTaken from None


async def drawn_up(form: Registration | NewUser) -> Account:
    """An account as a form wants it, not kept yet. Raises WeakPassword, Busy."""
    email, name = rules.people.email_of(form.email), form.name.strip()
    check_password(form.password, email=email, name=name)
    return Account(
        email=email, name=name, words=words_to_find(name, email), password=await hashing.hashed(form.password)
    )


@atomic
async def add(account: Account) -> Account:
    """Keep a new account. Raises AlreadyExists if its address is another's."""
    await accounts.add(account)
    await emit(UserRegistered(user_id=account.id))
    await audit.note("accounts.registered", actor=account.id, about=account.id)
    return account


@atomic
async def add_with_roles(account: Account, actor: Actor | None) -> Account:
    """Keep a new account that may be an admin's. Raises AlreadyExists if its address is another's."""
    await accounts.add(account)
    if rules.people.is_acting_admin(account):
        await let_in(account)
    await emit(UserRegistered(user_id=account.id))
    await audit.note("accounts.user_added", actor=actor, about=account.id, roles=account.roles)
    return account


async def rename(account: Account, patch: ProfilePatch, if_match: int | None) -> Account:
    """Change one's own name or language. Raises Stale if it is not the version that was meant."""
    if if_match not in (None, account.version):
        raise Stale
    changed = rules.people.changes_of(account, _tidy(patch.given()))
    return await _edit(account, changed, if_match) if changed else account


@guarded
async def _edit(account: Account, changed: dict[str, Any], if_match: int | None) -> Account:
    meant = {"version": if_match} if if_match else None
    if "name" in changed:
        changed["words"] = words_to_find(changed["name"], account.email)
    return await accounts.change(account.id, {"$set": changed}, meant)


@atomic
async def edit_user(user_id: str, patch: UserPatch, if_match: int | None, actor: Actor | None = None) -> Account:
    """Change somebody's name, roles, or whether they may come in at all; without an actor the house itself does.

    Their tokens with the old roles stop; if they are disabled, their sessions do too. Raises UnknownRole, AboveYou,
    LastAdmin, Stale, NotFound.
    """
    account = await accounts.get(user_id)
    if if_match not in (None, account.version):
        raise Stale
    changed = rules.people.changes_of(account, _tidy(patch.given()))
    if not changed:
        return account
    await _check_roles(account, changed.get("roles", account.roles), actor)
    step: dict[str, int] = {}
    if "roles" in changed or "disabled" in changed:
        step["token_version"] = 1
    if changed.get("disabled"):
        step["epoch"] = 1
        await emit(UserDisabled(user_id=user_id))
    if "name" in changed:
        changed["words"] = words_to_find(changed["name"], account.email)
    update: dict[str, Any] = {"$set": changed, **({"$inc": step} if step else {})}
    after = await accounts.change(user_id, update, {"version": account.version})
    if rules.people.is_acting_admin(after) != rules.people.is_acting_admin(account):
        await (let_in if rules.people.is_acting_admin(after) else let_go)(after)
    if "disabled" in changed:
        await (organisations.step_back if after.disabled else organisations.come_back)(user_id)
    if step:
        await revocations.revoke(actor=user_id, below=after.token_version)
    await audit.note("accounts.user_changed", actor=actor, about=user_id, **_noted(account, after, changed))
    return after


def _noted(before: Account, after: Account, changed: dict[str, Any]) -> dict[str, Any]:
    """What the audit log tells of a change: which fields, and of power what it was and is."""
    facts: dict[str, Any] = {"fields": sorted(changed.keys() - {"words"})}
    for name in ("roles", "disabled"):
        if name in changed:
            facts[name] = {"before": getattr(before, name), "after": getattr(after, name)}
    return facts


async def _check_roles(account: Account, roles: list[str], actor: Actor | None) -> None:
    """Only roles that there are, and that the actor could hand out: those the person has as well as the new ones."""
    rules.roles.check_roles(set(roles) - set(account.roles), await queries.roles.role_names())
    rules.roles.check_reach(actor, *account.roles, *roles)


def _tidy(given: dict[str, Any]) -> dict[str, Any]:
    if "name" in given:
        given["name"] = given["name"].strip()
    if "roles" in given:
        given["roles"] = rules.people.roles_of(given["roles"])
    return given


async def change_password(actor: Actor, form: PasswordChange) -> Account:
    """Change one's password, which ends all of one's sessions. Raises WrongPassword, WeakPassword, TooManyTries, Busy.

    Who holds a stolen session does not get to guess. Of two at the same moment with the same current password one
    succeeds; the other is told Stale.
    """
    account = await accounts.get(actor.id)
    async with tries.guess(f"step up {actor.session}", rules.defence.OF_DOOR, rules.people.WrongPassword):
        if not await hashing.fits(account.password, form.current_password):
            raise rules.people.WrongPassword
    check_password(form.new_password, email=account.email, name=account.name, pointer="/new_password")
    return await _set_password(account, await hashing.hashed(form.new_password))


@atomic
async def _set_password(account: Account, password: str) -> Account:
    update = {"$set": {"password": password}, "$inc": {"token_version": 1, "epoch": 1}}
    after = await accounts.change(account.id, update, {"password": account.password})
    await emit(PasswordChanged(user_id=account.id))
    await audit.note("accounts.password_changed", actor=account.id, about=account.id)
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


@atomic
async def let_go(account: Account) -> None:
    """Take an account off the list of admins. Raises LastAdmin.

    Two admins who remove each other both change this one document, so one of them comes second.
    """
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
