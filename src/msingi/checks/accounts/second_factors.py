"""docs/contracts/accounts-second-factors.md: codes of an app, recovery codes, and proving oneself once more."""

from dataclasses import dataclass
from typing import Any

from msingi.checks.accounts.people import (
    ACCOUNTS,
    decoded,
    me,
    newcomer,
    parts,
    sign_in,
    signed_in,
    soon_refused,
    steady,
    ticket,
    totp,
    with_token,
)
from msingi.checks.harness import Answer, Part, World, check, need_of_all, new_password, together

TOTP, STEP_UP = f"{ACCOUNTS}/me/totp", f"{ACCOUNTS}/step-up"
FACTORS = Part("second-factors", lambda world: world.ann.get(f"{ACCOUNTS}/me/factors"))
STEPPING = Part("step-up", lambda world: world.ann.post(STEP_UP, {}))


@dataclass
class Careful:
    """Somebody with an authenticator app, ten recovery codes, and a session."""

    form: dict[str, Any]
    secret: str
    recovery_codes: list[str]
    token: str

    def tickets(self, world: World, count: int) -> list[str]:
        """As many first steps, each waiting for the second."""
        return [self.first_step(world).data["ticket"] for _ in range(count)]

    def first_step(self, world: World) -> Answer:
        answer = sign_in(world, self.form["email"], self.form["password"])
        answer.problem(401, code="second_factor_needed")
        return answer


def careful(world: World) -> Careful:
    """Somebody new who has confirmed an app, with the code of one step ago: this one's and the next are unused."""
    form, tokens = newcomer(world)
    mine = with_token(tokens["access_token"])
    made = world.nobody.post(TOTP, headers=mine).want(201)
    made.need("no-store" in made.headers.get("cache-control", ""), "Cache-Control: no-store")
    secret = str(made.fields("secret", "uri")["secret"])
    steady()
    added = world.nobody.put(TOTP, {"code": totp(secret, -1)}, headers=mine).want(200)
    given = added.fields("recovery_codes", "session")
    added.need(len(given["recovery_codes"]) == 10, "ten recovery codes with the first factor")
    return Careful(form, secret, list(given["recovery_codes"]), str(given["session"]["access_token"]))


def second_step(world: World, ticket: str, **proof: str) -> Answer:
    return world.nobody.post(f"{ACCOUNTS}/sign-in/second-factor", {"ticket": ticket, **proof}, tries=1)


@check("A17: whoever has a second factor gets in with it only, and each code counts once", part=FACTORS)
def _(world: World) -> None:
    one = careful(world)
    first = one.first_step(world)
    told = first.fields("ticket", "methods")
    first.need({"totp", "recovery_code"} <= set(told["methods"]), "methods with totp and recovery_code")
    first.need("access_token" not in told and "refresh_token" not in told, "no token after one factor of two")
    wrong = f"{(int(totp(one.secret)) + 1) % 1_000_000:06d}"
    second_step(world, told["ticket"], code=wrong).problem(403, code="wrong_code")
    second_step(world, told["ticket"], code=totp(one.secret, -1)).problem(
        403, code="wrong_code", hint="that step is used"
    )
    second_step(world, told["ticket"]).problem(422, code="proof_missing")
    second_step(world, "nonsense", code=totp(one.secret)).problem(422, code="bad_ticket")
    code = totp(one.secret)
    answer = second_step(world, told["ticket"], code=code).want(200)
    claims = decoded(parts(answer.fields("access_token", "refresh_token")["access_token"])[1])
    answer.need({"mfa", "otp", "pwd"} <= set(claims.get("amr", [])), "amr with mfa, otp and pwd in the access token")
    second_step(world, told["ticket"], code=totp(one.secret, 1)).problem(422, code="bad_ticket")
    second_step(world, one.tickets(world, 1)[0], code=code).problem(403, code="wrong_code", hint="a code counts once")


@check("A17: with the first factor all other sessions end", part=FACTORS)
def _(world: World) -> None:
    form, tokens = newcomer(world)
    other = signed_in(world, form)
    mine = with_token(tokens["access_token"])
    secret = world.nobody.post(TOTP, headers=mine).want(201).data["secret"]
    me(world, other["access_token"]).want(200, hint="nothing counts until the first code has come")
    steady()
    added = world.nobody.put(TOTP, {"code": totp(secret)}, headers=mine).want(200)
    soon_refused(world, other["access_token"])
    soon_refused(world, tokens["access_token"])
    me(world, added.data["session"]["access_token"]).want(200)


@check(
    "A17: of twenty sign-ins at once with one code, one gets in",
    part=FACTORS,
    hint="write the step of the code that was used in one update that only one can win: where last_step < step",
)
def _(world: World) -> None:
    one = careful(world)
    tickets = one.tickets(world, 20)
    steady()
    code = totp(one.secret)
    answers = together(*[lambda ticket=ticket: second_step(world, ticket, code=code) for ticket in tickets])
    one_got_in(answers)


@check(
    "A17: of twenty sign-ins at once with one recovery code, one gets in",
    part=FACTORS,
    hint="take the code out in the same update that looks for it",
)
def _(world: World) -> None:
    one = careful(world)
    tickets, code = one.tickets(world, 20), one.recovery_codes[0]
    answers = together(*[lambda ticket=ticket: second_step(world, ticket, recovery_code=code) for ticket in tickets])
    one_got_in(answers)
    last = one.tickets(world, 1)[0]
    second_step(world, last, recovery_code=code).problem(403, 429)
    second_step(world, last, recovery_code=one.recovery_codes[1].replace("-", "").upper()).want(200)


def one_got_in(answers: list[Answer]) -> None:
    """One has tokens, and the others none."""
    statuses = [answer.status for answer in answers]
    refused = all(status in (403, 409, 422, 429, 503) for status in statuses if status != 200)
    need_of_all(answers, statuses.count(200) == 1 and refused, f"1 × 200, {len(answers) - 1} × refused")


@check("A17: after five wrong codes the right one has to wait too; a recovery code does not", part=FACTORS)
def _(world: World) -> None:
    one = careful(world)
    ticket = one.tickets(world, 1)[0]
    wrong = f"{(int(totp(one.secret)) + 1) % 1_000_000:06d}"
    answers = together(*[lambda: second_step(world, ticket, code=wrong)] * 12)
    looked_at = sum(answer.status == 403 for answer in answers)
    fine = looked_at == 5 and all(answer.status in (403, 429) for answer in answers)
    need_of_all(answers, fine, "5 × 403 wrong_code, the others 429", "count before you look, not after")
    second_step(world, ticket, code=totp(one.secret)).problem(429)
    second_step(world, ticket, recovery_code=one.recovery_codes[0]).want(200)


@check("A8: a letter for a new password does not get around a second factor", part=FACTORS)
def _(world: World) -> None:
    world.need_letters()
    one = careful(world)
    email = one.form["email"]
    verified = {"ticket": ticket(world, email, "/verify")}
    world.nobody.post(f"{ACCOUNTS}/verification", verified, headers=with_token(one.token)).want(204)
    world.nobody.post(f"{ACCOUNTS}/password-reset", {"email": email}).want(202)
    password = new_password()
    link = ticket(world, email, "/reset")
    world.nobody.put(f"{ACCOUNTS}/password-reset", {"ticket": link, "password": password}).want(204)
    sign_in(world, email, password).problem(401, code="second_factor_needed")


@check("A19: proving oneself once more wants the password, and gives a token that is fresh", part=STEPPING)
def _(world: World) -> None:
    form, tokens = newcomer(world)
    mine = with_token(tokens["access_token"])
    world.nobody.post(STEP_UP, {"password": "wrong " + form["password"]}, headers=mine).problem(
        403, code="wrong_password"
    )
    world.nobody.post(STEP_UP, {"password": form["password"]}).problem(401)
    answer = world.nobody.post(STEP_UP, {"password": form["password"]}, headers=mine).want(200)
    token = answer.fields("access_token", "expires_in")["access_token"]
    before, after = (decoded(parts(each)[1]) for each in (tokens["access_token"], token))
    answer.need(after.get("auth_time", 0) >= before.get("auth_time", 1), "auth_time of this proof in the new token")
    answer.need(after["sid"] == before["sid"], "the same session")
    me(world, token).want(200)


@check("A19: with a second factor, a password alone is no fresh proof", part=FACTORS)
def _(world: World) -> None:
    one = careful(world)
    mine = with_token(one.token)
    world.nobody.post(STEP_UP, {"password": one.form["password"]}, headers=mine).problem(403, 422)
    proof = {"password": one.form["password"], "recovery_code": one.recovery_codes[0]}
    world.nobody.post(STEP_UP, proof, headers=mine).want(200)
    world.nobody.post(STEP_UP, proof, headers=mine).problem(403, code="wrong_code", hint="each recovery code once")
