"""Providers to sign in with, and one's own connections to them."""

from msingi.kit import state
from msingi.kit.auth import Actor
from msingi.kit.errors import Busy
from msingi.kit.http import Body, Given, Path, delete, get, put
from msingi.products.accounts import queries, rules
from msingi.products.accounts.actions import identities
from msingi.products.accounts.models.identities import Identity
from msingi.products.accounts.models.settings import AccountsSettings
from msingi.products.accounts.schemas.identities import (
    ConnectionsView,
    ConnectionView,
    FirstPassword,
    ProvidersView,
    ProviderView,
)


@get("/providers", public=True)
async def list_providers() -> ProvidersView:
    """Where else one may sign in, in the order in which to show it."""
    found = state.part(AccountsSettings).providers
    return ProvidersView(
        items=[ProviderView(name=each.name, title=each.title, sign_in=f"/sign-in/with/{each.name}") for each in found]
    )


@get("/connections", in_person=True)
async def list_connections(actor: Given[Actor]) -> ConnectionsView:
    """The identities at providers that open one's account."""
    return ConnectionsView(items=[_shown(each) for each in await queries.identities.my_connections(actor)])


def _shown(identity: Identity) -> ConnectionView:
    titles = {each.name: each.title for each in state.part(AccountsSettings).providers}
    view: ConnectionView = ConnectionView.of(identity, title=titles.get(identity.provider, identity.provider))
    return view


@delete("/connections/{connection_id:str}", step_up=True, problems=[rules.identities.LastWayIn])
async def remove_connection(connection_id: Path[str], actor: Given[Actor]) -> None:
    """Remove one: that identity opens the account no more."""
    await identities.disconnect(actor, connection_id)


@put(
    "/me/password",
    step_up=True,
    status_code=204,
    limit="20/minute",
    problems=[rules.identities.HasPassword, rules.people.WeakPassword, Busy],
)
async def set_first_password(data: Body[FirstPassword], actor: Given[Actor]) -> None:
    """Set a password where there is none; one that there is, is changed with POST."""
    await identities.set_first_password(actor, data.new_password)


routes = [list_providers, list_connections, remove_connection, set_first_password]
