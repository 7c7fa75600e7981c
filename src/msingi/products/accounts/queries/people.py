"""People: oneself, and of others what a role or a contract allows."""

from msingi.kit.auth import Actor
from msingi.kit.db import Page, Paging, Where
from msingi.kit.peers import answers
from msingi.kit.search import words_of
from msingi.products.accounts.contract import PEOPLE, PeopleAsked, Person
from msingi.products.accounts.models.people import Account, accounts


async def me(actor: Actor) -> Account:
    """The actor's own account."""
    return await accounts.get(actor.id)


async def user(user_id: str) -> Account:
    """Anybody's account: for those who may look after others, which the route sees to."""
    return await accounts.get(user_id)


async def users(where: Where, q: str, page: Paging) -> Page[Account]:
    """Everybody, filtered and searched: for those who may look after others."""
    found = {"words": {"$all": words_of(q) or [""]}} if q.strip() else {}
    return await accounts.page(found, page, sorts=("-created_at", "email", "name"), also=where)


async def account_by_email(email: str) -> Account | None:
    return await accounts.find({"email": email})


@answers(PEOPLE)
async def people(asked: PeopleAsked) -> list[Person]:
    """Names and addresses, for other products."""
    found = await accounts.many({"_id": {"$in": asked.ids}})
    return [Person(id=each.id, name=each.name, email=each.email) for each in found]
