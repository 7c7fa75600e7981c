"""A person's own pages, read and filled in as a browser does it: in English and Swahili, and nobody else's things."""

import inspect
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from urllib.parse import urlencode

import pytest

from msingi.kit import clock
from msingi.kit.errors import Problem
from msingi.kit.testing import PASSWORD, World
from msingi.kit.unit import guarded
from msingi.products.accounts import pages as all_pages
from msingi.products.accounts import rules
from msingi.products.accounts.models.api_keys import api_keys
from msingi.products.accounts.models.clients import Consent, consents
from msingi.products.accounts.models.factors import passkeys
from msingi.products.accounts.models.identities import Identity, identities
from msingi.products.accounts.models.organisations import organisations
from msingi.products.accounts.models.people import accounts
from msingi.products.accounts.models.sessions import sessions
from msingi.products.accounts.pages import activity, arriving, shell
from msingi.products.accounts.tests.access.people import GOOD
from msingi.products.accounts.tests.authenticator import Authenticator
from msingi.products.accounts.tests.factor_people import code_of, first_step
from msingi.products.accounts.tests.letters import letters, ticket_for
from msingi.products.accounts.tests.people import Reader, reading, sign_in, signed_in

pytestmark = pytest.mark.usefixtures("mid_step")
FOLDER = Path(all_pages.__file__).parents[1]
NEW = "seven herons over the lake"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


# ---- words


def words() -> dict[str, str]:
    """What is said in Swahili, here and in the frame around."""
    found: dict[str, str] = {}
    root = FOLDER.parents[1]
    for folder in (root / "kit", root / "console", FOLDER):
        found |= json.loads((folder / "templates" / "words.sw.json").read_text("utf-8"))
    return found


def said_in_templates() -> Iterator[str]:
    for path in (FOLDER / "templates").glob("*.html"):
        for quoted in re.findall(r"""_\(\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""", path.read_text("utf-8")):
            yield quoted[1:-1]


def said_by_code() -> Iterator[str]:
    yield from shell.DONE.values()
    yield from shell.FIELDS.values()
    yield from activity.KINDS.values()
    yield from (title for _, title, *_rest in [*shell.OWN, *shell.OTHERS])
    for module in iter_modules(all_pages.__path__):
        for value in vars(import_module(f"{all_pages.__name__}.{module.name}")).values():
            if isinstance(value, shell.Question | arriving.Place):
                yield from (getattr(value, name) for name in ("title", "lead", "button"))
            if isinstance(value, arriving.Place):
                yield value.done


def test_all_that_the_pages_say_is_said_in_swahili_too() -> None:
    said = {*said_in_templates(), *said_by_code()}
    assert len(said) > 250
    assert sorted(said - words().keys()) == []


PROBLEMS = [
    *(rules.people.WrongPassword, rules.people.WeakPassword, rules.people.EmailTaken, rules.people.LastAdmin),
    *(rules.factors.WrongCode, rules.factors.BadPasskey, rules.factors.TooManyPasskeys, rules.tickets.BadTicket),
    *(rules.factors.NothingToConfirm, rules.factors.NoSecondFactor, rules.factors.ProofMissing),
    *(rules.identities.LastWayIn, rules.identities.HasPassword, rules.identities.UnknownProvider),
    *(rules.addresses.PhoneTaken, rules.api_keys.UnknownScope, rules.exports.ExportNotReady),
    *(rules.organisations.SlugTaken, rules.organisations.BadSlug, rules.organisations.LastOwner),
    *(rules.organisations.OrganisationFull, rules.organisations.TooManyOrganisations),
    *(rules.organisations.TooManyInvitations, rules.organisations.AlreadyMember),
    rules.organisations.InvitationForAnother,
]


def test_what_goes_wrong_on_the_pages_is_said_in_swahili_too() -> None:
    known = words()
    assert [kind.__name__ for kind in PROBLEMS if inspect.cleandoc(kind.__doc__ or "") not in known] == []
    assert [text for text in rules.people.MESSAGES.values() if text not in known] == []
    assert all(issubclass(kind, Problem) for kind in PROBLEMS)


def test_every_kind_of_entry_has_words() -> None:
    code = "\n".join(path.read_text("utf-8") for path in (FOLDER / "actions").glob("*.py"))
    noted = set(re.findall(r'note\(\s*"(accounts\.\w+)"', code)) | set(re.findall(r'noted: str = "([\w.]+)"', code))
    assert len(noted) > 40
    assert sorted(noted - activity.KINDS.keys()) == []


PAGES = [
    *("/account", "/account/email", "/account/phone", "/account/phone/code", "/account/phone/removal"),
    *("/account/security", "/account/security/password", "/account/security/app", "/account/security/app/removal"),
    *("/account/security/codes", "/account/security/passkeys", "/account/sessions", "/account/sessions/all"),
    *("/account/connections", "/account/api-keys", "/account/api-keys/new", "/account/organisations"),
    *("/account/organisations/farm", "/account/organisations/farm/removal", "/account/organisations/farm/members/bob"),
    *("/account/organisations/farm/members/bob/removal", "/account/organisations/farm/members/ann/removal"),
    *("/account/organisations/farm/members/bob/ownership", "/account/activity", "/account/data"),
    *("/account/data/erasure", "/erased", "/verify", "/forgot", "/reset", "/email", "/email/undo", "/unlock"),
]


async def test_every_page_speaks_both_languages(world: World) -> None:
    english = {text for text in said_in_templates() if len(text) > 12 and "{" not in text}
    swahili = words()
    async with reading(world, "ann") as ann:
        await with_everything(world, ann)
        for path in PAGES:
            plain = await ann.open(path)
            assert 'lang="en"' in plain, path
            assert plain.count("<h1>") == 1, path
            translated = await ann.open(f"{path}?lang=sw")
            assert 'lang="sw"' in translated, path
            visible = [each.strip() for each in re.split(r"<[^>]+>", translated)]
            assert [text for text in visible if text in english and swahili[text] != text] == [], path


async def with_everything(world: World, ann: Reader) -> None:
    """Let there be something on each of Ann's pages."""
    await set_up_app(ann)
    await make_key(ann)
    await give_connections()
    await ann.open("/account/organisations/farm")
    await ann.send("/account/organisations/farm/invitations", email="jane@example.org", role="member")
    await ann.open("/account/data")
    await ann.send("/account/data")


async def set_up_app(person: Reader) -> tuple[str, list[str]]:
    """The seed and the recovery codes."""
    await person.open("/account/security/app")
    assert await person.send("/account/security/app") == "/account/security/app"
    page = await person.open("/account/security/app")
    seed = re.search(r'class="secret">(\w+)<', page)
    assert seed
    page = await person.send("/account/security/app/code", 200, code=code_of(seed[1], -1))
    codes = re.search(r'id="codes"[^>]*>([^<]+)<', page)
    assert codes
    return seed[1], codes[1].split()


async def make_key(person: Reader, name: str = "Nightly", *scopes: str) -> str:
    await person.open("/account/api-keys/new")
    granted = list(scopes) or ["accounts:read"]
    page = await person.send("/account/api-keys/new", 200, name=name, scopes=granted, expires_in_days="30")
    secret = re.search(r'id="key"[^>]*>([^<]+)<', page)
    assert secret
    return secret[1]


@guarded
async def _connect(identity: Identity) -> None:
    await identities.add(identity)


@guarded
async def _consent(consent: Consent) -> None:
    await consents.add(consent)


async def give_connections() -> None:
    there = Identity(account="ann", provider="acme", issuer="https://acme.test", subject="1", email="ann@acme.test")
    there.id = "at-acme"
    await _connect(there)
    await _consent(Consent(id="diary", account="ann", client="c", client_name="Diary", scopes=["openid", "notes:read"]))


async def test_a_form_without_its_token_or_from_elsewhere_changes_nothing(world: World) -> None:
    async with reading(world, "ann") as ann:
        await ann.open("/account")
        await ann.post("/account", {"name": "Mallory"}, 403)
        elsewhere = {"origin": "https://evil.example"}
        reply = await ann.http.post("/account", data={"name": "Mallory", "_csrf": ann.token}, headers=elsewhere)
        assert reply.status_code == 403
        assert 'value="Ann"' in await ann.open("/account")


async def test_a19_a_page_for_what_matters_most_asks_for_a_fresh_proof_first(world: World) -> None:
    async with reading(world, "ann") as ann:
        await ann.open("/account/data")
        with clock.shifted(timedelta(minutes=6)):
            for path in ("/account/email", "/account/security/app", "/account/api-keys/new", "/account/data/erasure"):
                assert (await ann.http.get(path)).headers["location"] == f"/step-up?{urlencode({'back': path})}"
            assert await ann.send("/account/data") == "/step-up?back=%2Faccount%2Fdata"
            await ann.open("/account/sessions")


# ---- profile


async def test_a_name_and_a_language_are_changed(world: World) -> None:
    async with reading(world, "ann") as ann:
        await ann.open("/account")
        assert await ann.send("/account", name=" Anna ", language="sw") == "/account?done=saved"
        page = await ann.open("/account?done=saved")
        assert 'value="Anna"' in page
        assert "Imehifadhiwa." in page
        account = await accounts.get("ann")
        assert (account.name, account.language) == ("Anna", "sw")


async def test_what_is_wrong_with_a_field_is_said_in_ones_language(world: World) -> None:
    async with reading(world, "ann") as ann:
        await ann.open("/account?lang=sw")
        page = await ann.post("/account?lang=sw", {"_csrf": ann.token, "name": ""}, 422)
        assert "<strong>Jina</strong>: hili linahitajika" in page
        page = await ann.post("/account?lang=sw", {"_csrf": ann.token, "name": "x" * 101}, 422)
        assert "<strong>Jina</strong>: si zaidi ya herufi 100" in page


async def test_another_address_is_proved_by_its_letter(world: World) -> None:
    async with reading(world, "ann") as ann:
        await ann.open("/account/email")
        assert "this is no e-mail address" in await ann.send("/account/email", 422, email="nonsense")
        assert await ann.send("/account/email", email="anna@example.org") == "/account?done=email_asked"
        ticket = await ticket_for(world, "email_change", "anna@example.org")
        await ann.open(f"/email?ticket={ticket}")
        assert "Your account has its new address." in await ann.send(f"/email?ticket={ticket}", 200)
        assert "anna@example.org" in await ann.open("/account")


async def test_an_address_that_is_not_proved_can_have_its_letter_again(world: World) -> None:
    await unproved("ann")
    async with reading(world, "ann") as ann:
        assert "not confirmed" in await ann.open("/account")
        assert await ann.send("/account/email/verification") == "/account?done=letter_sent"
        ticket = await ticket_for(world, "verify", "ann@msingi.test")
        await ann.open(f"/verify?ticket={ticket}")
        assert "Your address is confirmed." in await ann.send(f"/verify?ticket={ticket}", 200)
        assert "not confirmed" not in await ann.open("/account")


@guarded
async def unproved(account_id: str) -> None:
    await accounts.change(account_id, {"$set": {"email_verified": False}})


async def test_a_phone_is_proved_and_removed(world: World) -> None:
    async with reading(world, "ann") as ann:
        await ann.open("/account/phone")
        assert "not the number of a mobile" in await ann.send("/account/phone", 422, phone="12345")
        assert await ann.send("/account/phone", phone="+255712345678") == "/account/phone/code?done=phone_asked"
        digits = next(said["code"] for kind, _, said in await letters(world) if kind == "code")
        await ann.open("/account/phone/code")
        wrong = str((int(digits) + 1) % 10**6).zfill(6)
        assert "no longer, good" in await ann.send("/account/phone/code", 422, code=wrong)
        assert await ann.send("/account/phone/code", code=digits) == "/account?done=phone"
        assert "+255712345678" in await ann.open("/account")
        assert "+255712345678" in await ann.open("/account/phone/removal")
        assert await ann.send("/account/phone/removal") == "/account?done=phone_removed"
        assert "You have given no number." in await ann.open("/account")


# ---- security


async def test_a_password_is_changed_and_this_browser_stays_signed_in(world: World) -> None:
    async with reading(world, "ann") as ann, reading(world, "ann") as elsewhere:
        await ann.open("/account/security")
        form = {"current_password": "not hers", "new_password": NEW}
        assert "This is not your current password." in await ann.send("/account/security", 403, **form)
        weak = {"current_password": PASSWORD, "new_password": "ann@msingi.test msingi"}
        assert "it is made of your name" in await ann.send("/account/security", 422, **weak)
        short = {"current_password": PASSWORD, "new_password": "short"}
        assert "at least 15 characters" in await ann.send("/account/security", 422, **short)
        done = await ann.send("/account/security", current_password=PASSWORD, new_password=NEW)
        assert done == "/account/security?done=password"
        await ann.open("/account/security")
        await elsewhere.open("/account/security", 303)
    await sign_in(world, "ann", NEW)


async def test_who_has_no_password_sets_one(world: World) -> None:
    async with reading(world, "ann") as ann:
        await ann.open("/account/security/password")
        assert "There is a password already" in await ann.send("/account/security/password", 409, new_password=NEW)
        await without_password("ann")
        assert "/account/security/password" in await ann.open("/account/security")
        await ann.open("/account/security/password")
        assert await ann.send("/account/security/password", new_password=NEW) == "/account/security?done=password_set"
    await sign_in(world, "ann", NEW)


@guarded
async def without_password(account_id: str) -> None:
    await accounts.change(account_id, {"$set": {"password": ""}})


async def test_a17_an_app_is_set_up_and_its_codes_are_shown_once(world: World) -> None:
    async with reading(world, "ann") as ann:
        page = await ann.open("/account/security/app")
        assert "data:image/svg" not in page
        await ann.send("/account/security/app")
        page = await ann.open("/account/security/app")
        assert 'src="data:image/svg+xml' in page
        page = await ann.send("/account/security/app/code", 403, code="000000")
        assert "This code is not right" in page
        assert "data:image/svg" in page  # and it may be tried again
        seed, codes = await set_up_app(ann)
        assert len(set(codes)) == 10
        assert ann.page.headers["cache-control"] == "no-store"
        page = await ann.open("/account/security")
        assert "10 of 10 are left." in page
        assert not [code for code in codes if code in page]
    needed = await first_step(world)
    form = {"ticket": needed["ticket"], "code": code_of(seed)}
    async with world.client(None).http as http:
        assert (await http.post("/v1/accounts/sign-in/second-factor", json=form)).status_code == 200


async def test_recovery_codes_are_renewed_and_the_app_is_removed(world: World) -> None:
    async with reading(world, "ann") as ann:
        await ann.open("/account/security/codes")
        assert "There is no second factor" in await ann.send("/account/security/codes", 409)
        _, codes = await set_up_app(ann)
        await ann.open("/account/security/codes")
        page = await ann.send("/account/security/codes", 200)
        assert page.count("-") > 50
        assert not [code for code in codes if code in page]
        await ann.open("/account/security/app/removal")
        assert await ann.send("/account/security/app/removal") == "/account/security?done=app_removed"
        assert "Make new codes" not in await ann.open("/account/security")
    await sign_in(world, "ann")


async def test_a18_a_passkey_is_added_renamed_and_removed(world: World) -> None:
    device = Authenticator()
    async with reading(world, "ann") as ann:
        page = await ann.open("/account/security/passkeys")
        assert 'data-new-passkey="/v1/accounts/me/passkeys/options"' in page
        headers = {"x-csrf-token": ann.token, "origin": "http://msingi.test"}
        begun = (await ann.http.post("/v1/accounts/me/passkeys/options", headers=headers)).json()
        made = {"_csrf": ann.token, "ticket": begun["ticket"], "name": "Laptop"}
        await ann.post("/account/security/passkeys", made | {"credential": "{}"}, 422)
        await ann.post("/account/security/passkeys", made | {"credential": "no JSON"}, 422)
        credential = json.dumps(device.make(begun["options"]))
        assert "Recovery codes" in await ann.post("/account/security/passkeys", made | {"credential": credential}, 200)
        passkey = (await passkeys.many({"account": "ann"}))[0]
        assert passkey.name == "Laptop"
        path = f"/account/security/passkeys/{passkey.id}"
        assert "Laptop" in await ann.open("/account/security")
        assert await ann.send(path, name="Old laptop") == "/account/security?done=saved"
        assert "Old laptop" in await ann.open(f"{path}/removal")
        async with reading(world, "bob") as bob:
            await bob.open(f"{path}/removal", 404)
            await bob.open("/account")
            await bob.post(f"{path}/removal", {"_csrf": bob.token}, 404)
            await bob.post(path, {"_csrf": bob.token, "name": "Mine"}, 404)
        assert await ann.send(f"{path}/removal") == "/account/security?done=passkey_removed"
        assert await passkeys.many({}) == []


# ---- sessions


async def test_sessions_are_named_and_ended(world: World) -> None:
    phone = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 Version/18.0 Safari/604.1"
    headers = {"user-agent": FIREFOX}
    async with reading(world, "ann", **headers) as ann, reading(world, "ann", **{"user-agent": phone}) as other:
        program = await signed_in(world, "ann")
        page = await ann.open("/account/sessions")
        assert "Firefox on Linux" in page
        assert "Safari on iPhone" in page
        assert page.count("this session") == 1
        assert page.count(">End it<") == 2  # all but the one under way
        mine = await sessions.many({"account": "ann"}, sort=[("_id", 1)])
        assert await ann.send(f"/account/sessions/{mine[1].id}/end") == "/account/sessions?done=session_ended"
        await other.open("/account", 303)
        await program.get("/me")
        async with reading(world, "bob") as bob:
            await bob.open("/account")
            await bob.post(f"/account/sessions/{mine[0].id}/end", {"_csrf": bob.token}, 404)
        await ann.open("/account/sessions")
        assert await ann.send("/account/sessions") == "/account/sessions?done=others_ended"
        await program.get("/me", expect=401)
        await ann.open("/account")


async def test_b3_signing_out_everywhere_ends_this_session_too(world: World) -> None:
    async with reading(world, "ann") as ann, reading(world, "ann") as other:
        await ann.open("/account/sessions/all")
        assert await ann.send("/account/sessions/all") == "/"
        await ann.open("/account", 303)
        await other.open("/account", 303)
        assert await sessions.count({"account": "ann", "epoch": (await accounts.get("ann")).epoch}) == 0


async def test_z1_who_acts_in_ones_name_is_named_and_may_change_nothing(world: World) -> None:
    admin = await signed_in(world, "admin")
    form = {"reason": "ticket 4711", "session": "cookie"}
    own = {"origin": "http://msingi.test"}
    async with reading(world, "ann") as ann, reading(world) as acting:
        await admin.post("/users/ann/impersonation", json=form, headers=own, expect=201)
        name, _, value = admin.last.headers["set-cookie"].partition(";")[0].partition("=")
        acting.http.cookies.set(name, value)
        assert "Admin acts in your name" in await ann.open("/account/sessions")
        assert "Admin, in your name" in await ann.open("/account/activity")
        await acting.open("/account")
        for path in ("/account/security", "/account/email", "/account/data", "/account/connections"):
            await acting.open(path, 403)
        await acting.open("/account/sessions")
        await acting.send("/account/sessions", 403)


@pytest.mark.parametrize(
    ("agent", "said"),
    [
        (FIREFOX, ("Firefox", "Linux")),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/140 Safari/537.36", ("Chrome", "Windows")),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/140.0 Safari/537.36 Edg/140.0", ("Edge", "Windows")),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 15) AppleWebKit/605 Version/18 Safari/605", ("Safari", "macOS")),
        ("Mozilla/5.0 (Linux; Android 15) SamsungBrowser/27 Chrome/125 Safari/537", ("Samsung Internet", "Android")),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) CriOS/140 Mobile Safari/604", ("Chrome", "iPhone")),
        ("curl/8.5.0", ("curl", "")),
        ("", ("", "")),
        ("x" * 300, ("x" * 40, "")),
    ],
)  # fmt: skip
def test_a_browser_is_said_in_plain_words(agent: str, said: tuple[str, str]) -> None:
    assert (rules.agents.browser_of(agent), rules.agents.system_of(agent)) == said


# ---- connections


async def test_a_connection_is_removed_unless_it_is_the_last_way_in(world: World) -> None:
    await give_connections()
    await without_password("ann")
    path = "/account/connections/at-acme/removal"
    async with reading(world, "bob") as bob:
        await bob.open(path, 404)
        assert "None is connected." in await bob.open("/account/connections")
    await with_password_again()
    async with reading(world, "ann") as ann:
        assert "ann@acme.test" in await ann.open("/account/connections")
        await without_password("ann")
        await ann.open(path)
        assert "set a password first" in await ann.send(path, 409)
        await with_password_again()
        await ann.open(path)
        assert await ann.send(path) == "/account/connections?done=disconnected"
        assert await identities.many({}) == []


@guarded
async def with_password_again() -> None:
    await accounts.change("ann", {"$set": {"password": (await accounts.get("bob")).password}})


async def test_what_a_program_was_allowed_is_shown_and_taken_back(world: World) -> None:
    await give_connections()
    path = "/account/connections/programs/diary/removal"
    async with reading(world, "ann") as ann, reading(world, "bob") as bob:
        page = await ann.open("/account/connections")
        assert "Diary" in page
        assert "Know that it is you" in page
        await bob.open(path, 404)
        await bob.open("/account")
        await bob.post(path, {"_csrf": bob.token}, 404)
        await ann.open(path)
        assert await ann.send(path) == "/account/connections?done=consent_taken_back"
        assert await consents.many({}) == []


# ---- API keys


async def test_a_key_is_made_shown_once_renamed_and_revoked(world: World) -> None:
    async with reading(world, "ann") as ann, reading(world, "bob") as bob:
        await ann.open("/account/api-keys/new")
        form = {"name": "Nightly", "expires_in_days": "30"}
        assert "What it may do" in await ann.send("/account/api-keys/new", 422, **form)
        assert "users:manage" in await ann.send("/account/api-keys/new", 422, **form, scopes=["users:manage"])
        secret = await make_key(ann, "Nightly", "accounts:read", "accounts:write")
        assert ann.page.headers["cache-control"] == "no-store"
        program = world.client(None)
        program.headers["authorization"] = f"Bearer {secret}"
        assert (await program.get("/me"))["id"] == "ann"
        key = (await api_keys.many({"account": "ann"}))[0]
        assert key.scopes == ["accounts:read", "accounts:write"]
        page = await ann.open("/account/api-keys")
        assert "Nightly" in page
        assert secret not in page
        assert await ann.send(f"/account/api-keys/{key.id}", name="Weekly") == "/account/api-keys?done=saved"
        await bob.open(f"/account/api-keys/{key.id}/removal", 404)
        await bob.open("/account")
        await bob.post(f"/account/api-keys/{key.id}", {"_csrf": bob.token, "name": "Mine"}, 404)
        await bob.post(f"/account/api-keys/{key.id}/removal", {"_csrf": bob.token}, 404)
        assert "Weekly" in await ann.open(f"/account/api-keys/{key.id}/removal")
        assert await ann.send(f"/account/api-keys/{key.id}/removal") == "/account/api-keys?done=key_revoked"
        await program.get("/me", expect=401)
        assert "You have none." in await ann.open("/account/api-keys")


# ---- organisations

FARM = "/account/organisations/farm"


async def test_an_organisation_is_made_renamed_and_deleted(world: World) -> None:
    async with reading(world, "eve") as eve:
        assert "You are in none." in await eve.open("/account/organisations")
        path = (await eve.send("/account/organisations", name="Orchard")).partition("?")[0]
        assert "Orchard" in await eve.open(path)
        assert "already" in await eve.send(path, 409, name="Orchard", slug="shamba-la-mfano")
        assert "Short name" in await eve.send(path, 422, name="Orchard", slug="No Slug")
        assert await eve.send(path, name="Old orchard", slug="old") == f"{path}?done=saved"
        assert "Old orchard" in await eve.open(f"{path}/removal")
        assert await eve.send(f"{path}/removal") == "/account/organisations?done=organisation_removed"
        assert await organisations.count({}) == 1


async def test_somebody_is_invited_and_comes(world: World) -> None:
    async with reading(world, "ann") as ann, reading(world, "eve") as eve, reading(world) as nobody:
        await ann.open(FARM)
        assert "already" in await ann.send(f"{FARM}/invitations", 409, email="bob@msingi.test", role="member")
        assert "no e-mail address" in await ann.send(f"{FARM}/invitations", 422, email="nonsense", role="member")
        await ann.send(f"{FARM}/invitations", email="eve@msingi.test", role="admin")
        assert "eve@msingi.test" in await ann.open(FARM)
        ticket = await ticket_for(world, "invitation", "eve@msingi.test")
        page = await nobody.open(f"/invitation?ticket={ticket}")
        assert "Ann invites you to Shamba la Mfano." in page
        assert urlencode({"back": f"/invitation?ticket={ticket}"}) in page
        assert 'action="/invitation"' not in page
        await ann.open(f"/invitation?ticket={ticket}")
        assert "sent to another address" in await ann.send("/invitation", 403)
        await eve.open(f"/invitation?ticket={ticket}")
        assert await eve.send("/invitation") == f"{FARM}?done=joined"
        assert "admin" in await eve.open(FARM)
        assert "no longer, good" in await eve.open(f"/invitation?ticket={ticket}", 422)


async def test_an_invitation_is_declined_or_taken_back(world: World) -> None:
    async with reading(world, "ann") as ann, reading(world) as nobody:
        await ann.open(FARM)
        await ann.send(f"{FARM}/invitations", email="jane@example.org", role="member")
        ticket = await ticket_for(world, "invitation", "jane@example.org")
        await nobody.open(f"/invitation?ticket={ticket}&lang=sw")
        assert "You have declined" in await nobody.send("/invitation/refusal", 200)
        await ann.open(FARM)
        await ann.send(f"{FARM}/invitations", email="joe@example.org", role="member")
        ticket = await ticket_for(world, "invitation", "joe@example.org")
        page = await ann.open(FARM)
        assert "jane@example.org" not in page
        action = re.findall(rf'action="({FARM}/invitations/[^"]+/removal)"', page)
        assert len(action) == 1
        assert await ann.send(action[0]) == f"{FARM}?done=invitation_revoked"
        await nobody.open(f"/invitation?ticket={ticket}", 422)


async def test_members_are_changed_and_removed_and_leave(world: World) -> None:
    async with reading(world, "ann") as ann, reading(world, "bob") as bob, reading(world, "eve") as eve:
        page = await bob.open(FARM)
        assert "ann@msingi.test" not in page  # addresses are for who manages
        assert f"{FARM}/removal" not in page
        for path in (FARM, f"{FARM}/members/bob", f"{FARM}/members/ann/removal", f"{FARM}/removal"):
            await eve.open(path, 404)
        await ann.open(f"{FARM}/members/ann/removal")
        assert "make somebody else owner first" in await ann.send(f"{FARM}/members/ann/removal", 409)
        await ann.open(f"{FARM}/members/bob")
        assert await ann.send(f"{FARM}/members/bob", role="admin") == f"{FARM}?done=saved"
        assert "ann@msingi.test" in await bob.open(FARM)
        await bob.post(f"{FARM}/members/ann", {"_csrf": bob.token, "role": "member"}, 403)
        await bob.post(f"{FARM}/removal", {"_csrf": bob.token}, 403)
        await ann.open(f"{FARM}/members/bob/ownership")
        assert await ann.send(f"{FARM}/members/bob/ownership") == f"{FARM}?done=handed_over"
        assert (await organisations.get("farm")).owners == ["bob"]
        await bob.open(f"{FARM}/members/ann/removal")
        assert await bob.send(f"{FARM}/members/ann/removal") == f"{FARM}?done=member_removed"
        await ann.open(FARM, 404)


async def test_a_member_leaves(world: World) -> None:
    async with reading(world, "bob") as bob:
        assert "Leave this organisation" in await bob.open(f"{FARM}/members/bob/removal")
        assert await bob.send(f"{FARM}/members/bob/removal") == "/account/organisations?done=left"
        await bob.open(FARM, 404)


# ---- activity and data


async def test_what_happened_is_told_in_plain_words(world: World) -> None:
    async with reading(world, "ann") as ann, reading(world, "bob") as bob:
        await make_key(ann)
        await bob.open("/account/security")
        wrong = {"current_password": "wrong", "new_password": NEW}
        await bob.send("/account/security", 403, **wrong)
        page = await ann.open("/account/activity")
        assert "An API key was made" in page
        assert "You signed in" in page
        assert "accounts." not in re.sub(r"<[^>]+>", "", page)
        assert "Ufunguo wa API ulitengenezwa" in await ann.open("/account/activity?lang=sw")
        assert "An API key was made" not in await bob.open("/account/activity")


async def test_d3_ones_data_is_asked_for_and_fetched(world: World) -> None:
    async with reading(world, "ann") as ann, reading(world, "bob") as bob:
        await ann.open("/account/data")
        assert await ann.send("/account/data") == "/account/data?done=export_asked"
        assert "is being put together" in await ann.open("/account/data")
        await world.work()
        link = re.search(r'href="(/v1/accounts/me/exports/[^"]+)"', await ann.open("/account/data"))
        assert link
        assert (await ann.http.get(link[1])).content.startswith(b"PK")
        assert (await bob.http.get(link[1])).status_code == 404
        assert "/exports/" not in await bob.open("/account/data")


async def test_d3_an_account_is_erased_by_who_ticks_the_box(world: World) -> None:
    async with reading(world, "ann") as ann, reading(world, "eve") as eve:
        await ann.open("/account/data/erasure")
        page = await ann.send("/account/data/erasure", 409, sure="yes")
        assert f'href="{FARM}"' in page  # which only she owns
        await eve.open("/account/data/erasure")
        assert "This is required" in await eve.send("/account/data/erasure", 422)
        assert await eve.send("/account/data/erasure", sure="yes") == "/erased"
        assert "Your account is erased" in await eve.open("/erased")
        await eve.open("/account", 303)
        assert await accounts.find({"_id": "eve"}) is None


async def test_who_is_new_makes_an_account_in_a_browser(world: World) -> None:
    async with reading(world) as jane:
        await jane.open("/register?back=/account")
        said = await jane.send("/register", expect=422, name="Jane", email="jane@example.org", password="short")
        assert "Password" in said
        assert 'value="jane@example.org"' in said
        assert "short" not in said
        said = await jane.send("/register", 200, name="Jane", email="jane@example.org", password=GOOD)
        assert 'href="/sign-in?back=%2Faccount"' in said or 'href="/sign-in?back=/account"' in said
        await jane.open("/register?back=//evil.example")
        assert "evil" not in jane.page.text
        await jane.send("/register", 409, name="Jane", email="jane@example.org", password=GOOD)
    await world.client(None).post("/sign-in", email="jane@example.org", password=GOOD)
