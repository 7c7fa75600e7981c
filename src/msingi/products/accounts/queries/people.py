"""People: oneself, and of others what a role or a contract allows."""

from msingi.kit.auth import Actor
from msingi.kit.clock import now
from msingi.kit.db import Page, Paging, Where
from msingi.kit.peers import answers
from msingi.kit.search import words_of
from msingi.products.accounts import rules
from msingi.products.accounts.contract import PEOPLE, PeopleAsked, Person
from msingi.products.accounts.models.people import Account, accounts, email_key, marked, phone_key


async def me(actor: Actor) -> Account:
    """The actor's own account."""
    return await accounts.get(actor.id)


async def user(user_id: str) -> Account:
    """Anybody's account: for those who may look after others, which the route sees to."""
    return await accounts.get(user_id)


async def users(where: Where, q: str, page: Paging, email: str = "") -> Page[Account]:
    """Everybody, filtered and searched: for those who may look after others. Addresses are found whole, or by words."""
    asked: list[Where] = [{"words": {"$in": [word, marked(word)]}} for word in words_of(q)]
    if q.strip() and not asked:
        return Page([], None)
    if email:
        asked.append({"email_key": email_key(email.strip().lower())})
    return await accounts.page({"$and": asked} if asked else {}, page, sorts=("-created_at", "name"), also=where)


async def account_by_email(email: str) -> Account | None:
    return await accounts.find({"email_key": email_key(email)})


async def account_by_id(account_id: str) -> Account | None:
    return await accounts.find({"_id": account_id})


async def account_by_phone(phone: str) -> Account | None:
    """Whose number it is, if that was shown lately enough to be sure."""
    since = now() - rules.addresses.NUMBER_KEPT
    return await accounts.find({"phone_key": phone_key(phone), "phone_at": {"$gt": since}})


@answers(PEOPLE)
async def people(asked: PeopleAsked) -> list[Person]:
    """Names and addresses, for other products."""
    found = await accounts.many({"_id": {"$in": asked.ids}})
    return [Person(id=each.id, name=each.name, email=each.email, language=each.language) for each in found]
