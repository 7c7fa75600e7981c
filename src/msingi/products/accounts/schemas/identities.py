"""The providers that one may sign in with, and one's own connections to them."""

from datetime import datetime

from msingi.kit.db import Form, View
from msingi.products.accounts.schemas.people import NewPassword


class ProviderView(View):
    """`sign_in` is the address where a browser begins."""

    name: str
    title: str
    sign_in: str


class ProvidersView(View):
    items: list[ProviderView]


class ConnectionView(View):
    id: str
    provider: str
    title: str
    email: str
    created_at: datetime
    last_used_at: datetime


class ConnectionsView(View):
    items: list[ConnectionView]


class FirstPassword(Form):
    new_password: NewPassword
