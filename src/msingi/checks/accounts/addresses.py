"""docs/contracts/accounts-addresses.md: what letters are good for, and what they do not tell."""

from functools import partial
from typing import Any

from msingi.checks.accounts.people import (
    ACCOUNTS,
    me,
    new_form,
    newcomer,
    refresh,
    register,
    sign_in,
    signed_in,
    soon_refused,
    ticket,
    with_token,
)
from msingi.checks.harness import Answer, Part, World, check, fresh, need_of_all, new_email, new_password, together
from msingi.checks.timing import Pair, cannot_be_told_apart

VERIFICATION, RESET = f"{ACCOUNTS}/verification", f"{ACCOUNTS}/password-reset"
EMAIL, RESTORATION = f"{ACCOUNTS}/me/email", f"{ACCOUNTS}/me/email/restoration"
VERIFYING = Part("verification", lambda world: world.ann.post(VERIFICATION, {}))
RESETTING = Part("password-reset", lambda world: world.ann.put(RESET, {}))
MOVING = Part("email-change", lambda world: world.ann.put(EMAIL, {}))
VARYING = ("date", "x-request-id", "ratelimit", "server-timing", "traceparent", "connection", "keep-alive", "etag")


def asked(world: World, email: str, **more: Any) -> Answer:
    """Ask for a letter to set a new password."""
    return world.nobody.post(RESET, {"email": email}, **more)


def set_password(world: World, ticket: str, password: str, **more: Any) -> Answer:
    return world.nobody.put(RESET, {"ticket": ticket, "password": password}, **more)


def looks(answer: Answer) -> tuple[int, bytes, list[tuple[str, str]]]:
    """All that an answer tells, but for what differs from one to the next anyway."""
    told = sorted((name, value) for name, value in answer.headers.items() if name not in VARYING)
    return answer.status, answer.content, told


def known_and_unknown(world: World) -> tuple[str, str]:
    """The address of somebody who has registered, and one that is nobody's."""
    form, _ = newcomer(world)
    return form["email"], new_email("nobody")


@check("A letter's ticket verifies the address: by a POST, once, the newest only", part=VERIFYING)
def _(world: World) -> None:
    world.need_letters()
    form, tokens = newcomer(world)
    first = ticket(world, form["email"], "/verify")

    def is_verified(yes: bool) -> None:
        answer = me(world, tokens["access_token"]).want(200)
        answer.need(answer.data.get("email_verified") is yes, f"email_verified {str(yes).lower()}")

    world.nobody.get(f"/verify?ticket={first}")
    world.nobody.ask("HEAD", f"/verify?ticket={first}")
    is_verified(False)
    world.nobody.post(f"{VERIFICATION}/resend", {"email": form["email"]}).want(202)
    second = ticket(world, form["email"], "/verify", 2)
    mine = with_token(tokens["access_token"])
    for useless in (first, "nonsense", second[:-1], second + "A"):
        world.nobody.post(VERIFICATION, {"ticket": useless}, headers=mine).problem(422, code="bad_ticket")
    is_verified(False)
    world.nobody.post(VERIFICATION, {"ticket": second}, headers=mine).want(204)
    is_verified(True)
    world.nobody.post(VERIFICATION, {"ticket": second}, headers=mine).problem(422, code="bad_ticket")


@check(
    "A letter proves the address, not the account: its ticket alone verifies nothing",
    part=VERIFYING,
    hint="else a stranger's account with your address becomes yours by your own click, and stays open to the stranger",
)
def _(world: World) -> None:
    world.need_letters()
    form, tokens = newcomer(world)
    shown = {"ticket": ticket(world, form["email"], "/verify")}
    for stranger in (world.nobody, world.eve):
        stranger.post(VERIFICATION, shown).problem(422, code="proof_missing")
    wrong = {**shown, "password": "wrong " + form["password"]}
    world.nobody.post(VERIFICATION, wrong).problem(403, code="wrong_password")
    mine = me(world, tokens["access_token"]).want(200)
    mine.need(mine.data.get("email_verified") is False, "email_verified false after all that")
    world.nobody.post(VERIFICATION, {**shown, "password": form["password"]}).want(204)


@check(
    "A6: asking for a letter tells nobody whether an address is known",
    part=RESETTING,
    hint="answer 202 before anybody has looked for the address",
)
def _(world: World) -> None:
    known, unknown = known_and_unknown(world)
    for path in (RESET, f"{VERIFICATION}/resend", f"{ACCOUNTS}/unlocking"):
        answers = [world.nobody.post(path, {"email": email}) for email in (known, unknown)]
        if path != RESET and answers[0].status == answers[1].status == 404:
            continue
        answers[0].want(202)
        answers[1].need(
            looks(answers[0]) == looks(answers[1]), f"the very same as for a known address: {answers[0].came}"
        )


@check(
    "A6: asking for a new password takes the same time for a known and an unknown address",
    part=RESETTING,
    hint="look for the address, and write the letter, after the answer has been given",
)
def _(world: World) -> str:
    def pair() -> Pair:
        world.places.move()
        known, unknown = known_and_unknown(world)
        return lambda: asked(world, known, tries=1), lambda: asked(world, unknown, tries=1)

    return cannot_be_told_apart(pair, 202)


@check("A8: a reset link sets a new password once, ends every session, and signs nobody in", part=RESETTING)
def _(world: World) -> None:
    world.need_letters()
    form, tokens = newcomer(world)
    asked(world, form["email"]).want(202)
    link = ticket(world, form["email"], "/reset")
    world.nobody.get(f"/reset?ticket={link}")
    set_password(world, link, "too short").problem(422)
    me(world, tokens["access_token"]).want(200, hint="a refused password, and a GET of the link, change nothing")
    password = new_password()
    answer = set_password(world, link, password).want(204)
    answer.need("set-cookie" not in answer.headers, "nobody signed in: no Set-Cookie")
    soon_refused(world, tokens["access_token"])
    refresh(world, tokens["refresh_token"]).problem(401)
    sign_in(world, form["email"], form["password"]).problem(401, code="wrong_credentials")
    sign_in(world, form["email"], password).want(200)
    for used in (link, "nonsense", link[:-1]):
        set_password(world, used, new_password()).problem(422, code="bad_ticket")
    sign_in(world, form["email"], password).want(200, hint="a used link changes nothing")


@check("A8: only the newest reset letter is good", part=RESETTING)
def _(world: World) -> None:
    world.need_letters()
    form, _ = newcomer(world)
    asked(world, form["email"]).want(202)
    first = ticket(world, form["email"], "/reset")
    asked(world, form["email"]).want(202)
    second = ticket(world, form["email"], "/reset", 2)
    set_password(world, first, new_password()).problem(422, code="bad_ticket")
    set_password(world, second, new_password()).want(204)


@check(
    "A8: of twenty who show one reset link at once, one sets the password",
    part=RESETTING,
    hint="use the ticket up in one step that only one can win, in the transaction that sets the password",
)
def _(world: World) -> None:
    world.need_letters()
    form, _ = newcomer(world)
    asked(world, form["email"]).want(202)
    link = ticket(world, form["email"], "/reset")
    passwords = [new_password() for _ in range(20)]
    answers = together(*[lambda password=password: set_password(world, link, password) for password in passwords])
    statuses = [answer.status for answer in answers]
    need_of_all(answers, statuses.count(204) == 1 and statuses.count(422) == 19, "1 × 204, 19 × 422")
    sign_in(world, form["email"], passwords[statuses.index(204)]).want(200)


@check(
    "A8: links in letters begin with the server's own address, whatever Host a request brings",
    part=RESETTING,
    hint="build links from a setting, never from the request",
)
def _(world: World) -> None:
    letters = world.letters
    form, _ = newcomer(world)
    evil = f"{fresh('evil')}.example"
    forged: tuple[dict[str, str], ...] = (
        {"Host": evil},
        {"X-Forwarded-Host": evil, "X-Forwarded-Proto": "https"},
        {"Forwarded": f"host={evil};proto=https", "X-Original-Host": evil, "Origin": f"https://{evil}"},
    )
    sent = sum(asked(world, form["email"], headers=headers).status == 202 for headers in forged)
    sent += asked(world, form["email"]).want(202).status == 202
    ticket(world, form["email"], "/reset", sent)
    told = [letter.text for letter in letters.came if letter.to == form["email"] and evil in letter.text]
    asked_for = f"POST {RESET} with Host, X-Forwarded-Host and Forwarded: {evil}"
    answer = world.nobody.get("/.well-known/jwks.json")
    if told:
        Answer(asked_for, answer.status, answer.headers, f"a letter with {evil} in it".encode()).need(
            False, "links that begin with the server's configured address"
        )


@check("An address changes when the new one proves itself, and the old one can undo it", part=MOVING)
def _(world: World) -> None:
    world.need_letters()
    form, tokens = newcomer(world)
    new = new_email("moved")
    mine = with_token(tokens["access_token"])
    if world.offers(VERIFYING) is None:
        world.nobody.post(VERIFICATION, {"ticket": ticket(world, form["email"], "/verify")}, headers=mine).want(204)
    world.nobody.post(EMAIL, {"email": new}, headers=mine).want(202)
    link = ticket(world, new, "/email")
    before = me(world, tokens["access_token"]).want(200)
    before.need(before.data["email"] == form["email"], "the old address until the new one has proved itself")
    sign_in(world, new, form["password"]).want(401)
    world.nobody.put(EMAIL, {"ticket": "nonsense"}, headers=mine).problem(422, code="bad_ticket")
    for stranger in (world.nobody, world.eve):
        stranger.put(EMAIL, {"ticket": link}).problem(422, code="proof_missing")
    world.nobody.put(EMAIL, {"ticket": link}, headers=mine).want(204)
    world.nobody.put(EMAIL, {"ticket": link}, headers=mine).problem(422, code="bad_ticket")
    sign_in(world, form["email"], form["password"]).want(401)
    there = signed_in(world, {**form, "email": new})
    mine_now = me(world, there["access_token"]).want(200)
    mine_now.need((mine_now.data["email"], mine_now.data.get("email_verified")) == (new, True), "the new one, verified")
    undo = ticket(world, form["email"], "/email/undo")
    world.nobody.get(f"/email/undo?ticket={undo}")
    sign_in(world, new, form["password"]).want(200, hint="a GET changes nothing")
    world.nobody.put(RESTORATION, {"ticket": undo}).want(204)
    soon_refused(world, there["access_token"])
    sign_in(world, new, form["password"]).want(401)
    world.nobody.put(RESTORATION, {"ticket": undo}).problem(422, code="bad_ticket")
    # Whoever took the address may know the password: it is void, and a letter sets another.
    sign_in(world, form["email"], form["password"]).problem(401, code="wrong_credentials")
    asked(world, form["email"]).want(202)
    password = new_password()
    set_password(world, ticket(world, form["email"], "/reset"), password).want(204)
    back = signed_in(world, {**form, "password": password})
    mine_again = me(world, back["access_token"]).want(200)
    mine_again.need(mine_again.data["email"] == form["email"], "the old address again")


@check("Of two who want the same free address, one gets it", part=MOVING)
def _(world: World) -> None:
    world.need_letters()
    wanted = new_email("wanted")
    acts = []
    for turn in (1, 2):
        _, tokens = newcomer(world)
        mine = with_token(tokens["access_token"])
        world.nobody.post(EMAIL, {"email": wanted}, headers=mine).want(202)
        shown = {"ticket": ticket(world, wanted, "/email", turn)}
        acts.append(partial(world.nobody.put, EMAIL, shown, headers=mine))
    answers = together(*acts)
    need_of_all(answers, sorted(answer.status for answer in answers) == [204, 409], "1 × 204, 1 × 409 email_taken")
    register(world, new_form(email=wanted)).want(409, 202)
