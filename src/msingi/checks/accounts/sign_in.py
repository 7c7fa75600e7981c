"""docs/contracts/accounts-sign-in.md: guessing ends soon, tells nothing, and keeps nobody out of their own account."""

from collections.abc import Iterator
from functools import partial
from itertools import count, cycle

from msingi.checks.accounts.people import ACCOUNTS, new_form, newcomer, register
from msingi.checks.harness import Answer, Part, Skipped, World, check, new_email, new_password
from msingi.checks.timing import Pair, cannot_be_told_apart

SIGN_IN = f"{ACCOUNTS}/sign-in"
SOME = 13  # addresses that wrong passwords are spread over: eight tries each, so that no lock comes between
LOCKING = Part("locking", lambda world: world.ann.post(f"{ACCOUNTS}/unlocking", {}))


def guess(world: World, email: str, password: str = "", cookie: str = "") -> Answer:
    """Try to sign in, and do not wait if it is to be waited."""
    headers = {"Cookie": cookie} if cookie else {}
    return world.nobody.post(
        SIGN_IN, {"email": email, "password": password or new_password()}, headers=headers, tries=1
    )


def registered(world: World) -> str:
    """The address of somebody new."""
    form = new_form()
    register(world, form).want(201, 202)
    return str(form["email"])


def lock(world: World, email: str) -> None:
    """Ten wrong passwords for one address."""
    for turn in range(10):
        answer = guess(world, email)
        if turn == 0 and answer.status == 429:
            raise Skipped("the server has had too many wrong passwords from here lately")
        answer.problem(401, code="wrong_credentials")


def device_cookie(answer: Answer) -> str:
    """The cookie by which a device is known again."""
    cookies = [each.partition(";")[0] for each in answer.headers.get_list("set-cookie")]
    found = [each for each in cookies if each.partition("=")[0] in ("device", "__Host-device")]
    answer.need(bool(found), "a cookie __Host-device (device over plain HTTP)")
    return found[0]


@check(
    "A3: the eleventh wrong password has to wait, of an address that is nobody's too",
    part=LOCKING,
    hint="count tries for an address before you look at the password, whether or not somebody has it",
)
def _(world: World) -> None:
    form, _ = newcomer(world)
    for email in (form["email"], new_email("nobody")):
        lock(world, email)
        answer = guess(world, email)
        answer.problem(429, code="too_many_tries")
        answer.need(answer.headers.get("retry-after", "").isdigit(), "the header Retry-After, in seconds")
        told = answer.data.get("retry_after")
        answer.need(str(told) == answer.headers["retry-after"], "the same number as `retry_after`")
    guess(world, form["email"], form["password"]).problem(429, code="too_many_tries")


@check(
    "A4: a stranger's guesses do not lock the owner out of a device that is known",
    part=LOCKING,
    hint="give a device on which somebody signed in a cookie of its own, and a count of its own",
)
def _(world: World) -> None:
    form = new_form()
    register(world, form).want(201, 202)
    device = device_cookie(guess(world, form["email"], form["password"]).want(200))
    lock(world, form["email"])
    guess(world, form["email"], form["password"]).problem(429)
    guess(world, form["email"], form["password"], "device=" + "A" * 43).problem(429, hint="a made-up device is none")
    guess(world, form["email"], form["password"], device).want(200)
    other = new_form()
    register(world, other).want(201, 202)
    lock(world, other["email"])
    guess(world, other["email"], other["password"], device).problem(429, hint="a device is known for one account")


@check(
    "A6: a wrong password takes the same time for a known and an unknown address",
    hint="hash something also when there is no such address, and do the rest alike",
)
def _(world: World) -> str:
    if not world.places.many and world.offers(LOCKING) is None:
        raise Skipped(
            "a server that counts wrong passwords can only be timed from its own machine, where callers are many"
        )

    def pair() -> Pair:
        tries = count(1)
        known, unknown = (
            cycle([registered(world) for _ in range(SOME)]),
            cycle([new_email("nobody") for _ in range(SOME)]),
        )

        def timed(emails: Iterator[str]) -> Answer:
            if next(tries) % 50 == 0:  # a hundred wrong ones from one place would be too many
                world.places.move()
            return guess(world, next(emails))

        return partial(timed, known), partial(timed, unknown)

    return cannot_be_told_apart(pair, 401)
