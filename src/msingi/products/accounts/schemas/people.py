"""What people send of themselves, and what is told of them."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from msingi.kit.db import Form, View
from msingi.products.accounts.models.people import Role

Email = Annotated[str, Meta(min_length=3, max_length=320, examples=["ann@example.org"])]
Name = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"\S", examples=["Ann"])]
NewPassword = Annotated[str, Meta(min_length=15, max_length=128, examples=["correct horse battery"])]
GivenPassword = Annotated[str, Meta(max_length=1024, examples=["correct horse battery"])]


Language = Literal["en", "sw"]
Roles = Annotated[list[Role], Meta(max_length=50)]


class Registration(Form):
    email: Email
    password: NewPassword
    name: Name


class ProfilePatch(Form):
    name: Name | UnsetType = UNSET
    language: Language | UnsetType = UNSET


class PasswordChange(Form):
    current_password: GivenPassword
    new_password: NewPassword


class NewUser(Form):
    email: Email
    password: NewPassword
    name: Name
    roles: Roles = []


class BroughtUser(Form):
    """Somebody whose password another system hashed: bcrypt or argon2, as these encode it. `email_verified`: that
    system had the address proved, so no letter asks for it again."""

    email: Email
    name: Name
    password_hash: Annotated[str, Meta(max_length=300, examples=["$2b$12$…"])]
    email_verified: bool = False


class UserPatch(Form):
    name: Name | UnsetType = UNSET
    roles: Roles | UnsetType = UNSET
    disabled: bool | UnsetType = UNSET


class AccountView(View):
    id: str
    email: str
    email_verified: bool
    phone: str | None
    language: str
    name: str
    roles: list[Role]
    disabled: bool
    created_at: datetime
    updated_at: datetime
    version: int
