"""Decisions about addresses: what becomes of one that is not proved, or not free."""

from datetime import timedelta

from msingi.kit.errors import Conflict, Forbidden, SignInFirst

NUMBER_KEPT = timedelta(days=90)  # since a code last showed whose a number is: networks give silent ones to others


class EmailUnverified(Forbidden):
    """This e-mail address is not verified yet: follow the link in the letter that went to it, or ask for a new one."""


class PhoneTaken(Conflict):
    """There is an account with this phone number already."""


class BadCode(SignInFirst):
    """This code is wrong, used up or too old; ask for a new one."""
