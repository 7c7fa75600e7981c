"""What is sent of roles, and told."""

from datetime import datetime
from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from msingi.kit.db import Form, View
from msingi.products.accounts.models.people import Role

Permissions = Annotated[list[Annotated[str, Meta(min_length=1, max_length=100)]], Meta(max_length=500)]
About = Annotated[str, Meta(max_length=300)]


class NewRole(Form):
    name: Role
    permissions: Permissions = []
    about: About = ""


class RolePatch(Form):
    permissions: Permissions | UnsetType = UNSET
    about: About | UnsetType = UNSET


class RoleView(View):
    """A role, whether the code knows it, an admin made it, or both.

    `built_in`: the code knows it. `changed`: an admin made something else of it. `keeps`: what cannot be taken.
    `version` is 0 while nobody changed it.
    """

    name: str
    about: str
    permissions: list[str]
    keeps: list[str]
    built_in: bool
    changed: bool
    updated_at: datetime | None
    version: int


class RolesView(View):
    items: list[RoleView]


class PermissionView(View):
    """`product`: whose code asks for it; `house` for what belongs to none."""

    name: str
    product: str
    roles: list[str]


class PermissionsView(View):
    items: list[PermissionView]
