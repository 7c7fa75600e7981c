"""The pages for looking after others, read and filled in as a browser does it: in English and in Swahili."""

import inspect
import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from msingi.kit import audit, clock, state
from msingi.kit.errors import Problem
from msingi.kit.testing import World
from msingi.kit.unit import guarded
from msingi.products.accounts import pages as all_pages
from msingi.products.accounts import rules
from msingi.products.accounts.models.api_keys import ApiKey, api_keys
from msingi.products.accounts.models.clients import clients
from msingi.products.accounts.models.factors import Factors, factors
from msingi.products.accounts.models.identities import Identity, identities
from msingi.products.accounts.models.people import accounts
from msingi.products.accounts.pages import entries, user
from msingi.products.accounts.pages.users import SORTS
from msingi.products.accounts.tests.letters import ticket_for
from msingi.products.accounts.tests.people import OWN_PAGE, reading, sign_in

FOLDER = Path(all_pages.__file__).parents[1]
PAGES = [
    *("/admin/users", "/admin/users/new", "/admin/users/import", "/admin/users/ann", "/admin/users/ann/edit"),
    *("/admin/users/ann/impersonation", "/admin/users/ann/erasure", "/admin/users/ann/disable"),
    *("/admin/users/ann/factors", "/admin/users/ann/reset-letter", "/admin/users/ann/sign-out"),
    *("/admin/roles", "/admin/roles/_new", "/admin/roles/admin", "/admin/roles/admin/permissions"),
    *("/admin/roles/admin/removal", "/admin/audit", "/admin/audit/chain", "/admin/clients", "/admin/clients/new"),
    *("/admin/organisations", "/admin/organisations/farm", "/admin/organisations/farm/removal"),
    *("/admin/limits", "/admin/limits/member", "/admin/limits/member/default"),
]
# Whose headings are names, or hold one.
NAMED = ["/admin/users/ann", "/admin/users/ann/impersonation", "/admin/roles/admin", "/admin/roles/admin/permissions"]
NAMED += ["/admin/limits/member", "/admin/organisations/farm"]
BCRYPT = "$2b$04$5jDzl2c6Kb2pX0lHuxiZ5eZKJ2lcFB7pLZ5e1qKlF9y1S8p6oKqZO"


def words() -> dict[str, str]:
    found: dict[str, str] = {}
    for folder in (FOLDER.parents[1] / "kit", FOLDER.parents[1] / "console", FOLDER):
        found |= json.loads((folder / "templates" / "words.sw.json").read_text("utf-8"))
    return found


# ---- words and who sees what


PROBLEMS: list[type[Problem]] = [
    *(rules.people.LastAdmin, rules.people.AccountDisabled, rules.roles.RoleExists, rules.roles.RoleInUse),
    *(rules.roles.UnknownRole, rules.roles.UnknownPermission, rules.roles.KeptPermission, rules.roles.AboveYou),
    *(rules.limits.NoSuchLimit, rules.limits.BadLimit, rules.clients.PublicClient),
    *(rules.impersonation.NotInTheirName, rules.organisations.LastOwner),
]


def test_what_is_asked_and_told_here_is_said_in_swahili_too() -> None:
    questions = [each.question for each in user.ACTS.values()]
    said = {text for each in questions for text in (each.title, each.lead, each.button)}
    said |= {*entries.KINDS.values(), *SORTS.values()}
    said |= {inspect.cleandoc(each.__doc__ or "") for each in PROBLEMS}
    assert sorted(said - words().keys()) == []


async def test_every_admin_page_speaks_both_languages(world: World) -> None:
    async with reading(world, "admin") as admin:
        for path in PAGES:
            plain = await admin.open(path)
            assert 'lang="en"' in plain, path
            assert plain.count("<h1>") == 1, path
            swahili = await admin.open(f"{path}?lang=sw")
            assert 'lang="sw"' in swahili, path
            heading = r"<h1>\s*([^<]+?)\s*<"
            english, other = (re.search(heading, each) for each in (plain, swahili))
            assert english, path
            assert other, path
            if path not in NAMED:
                assert other[1] == words().get(english[1], "its words are missing"), path


async def test_z1_a_member_sees_none_of_it_and_is_not_led_there(world: World) -> None:
    async with reading(world, "ann") as ann:
        for path in PAGES:
            await ann.open(path, 403)
        page = await ann.open("/account")
        assert "/admin/" not in page
    async with reading(world, "admin") as admin:
        page = await admin.open("/account")
        assert '<a href="/admin/users">Look after others</a>' in page


async def test_z1_who_reads_the_audit_log_alone_sees_only_that_place(world: World) -> None:
    async with reading(world, "admin") as admin:
        await admin.open("/admin/roles/_new")
        await admin.send("/admin/roles/_new", name="auditor", about="Reads", permissions=["audit:read"])
        await admin.open("/admin/users/bob/edit")
        await admin.send("/admin/users/bob/edit", name="Bob", roles=["auditor"])
    async with reading(world, "bob") as bob:
        page = await bob.open("/admin/audit")
        assert "/admin/users" not in page
        assert "/admin/roles" not in page
        await bob.open("/admin/users", 403)
        assert '<a href="/admin/audit">Look after others</a>' in await bob.open("/account")


async def test_a19_pages_that_change_something_ask_for_a_fresh_proof_first(world: World) -> None:
    changing = [path for path in PAGES if path.count("/") > 2 and path not in LOOKING]
    async with reading(world, "admin") as admin:
        await admin.open("/admin/users/ann/disable")
        with clock.shifted(timedelta(minutes=6)):
            for path in changing:
                assert (await admin.http.get(path)).headers["location"] == f"/step-up?{urlencode({'back': path})}"
            assert await admin.send("/admin/users/ann/disable") == "/step-up?back=%2Fadmin%2Fusers%2Fann%2Fdisable"
            for path in LOOKING:
                await admin.open(path)
    assert not (await accounts.get("ann")).disabled


LOOKING = ["/admin/users", "/admin/users/ann", "/admin/roles/admin", "/admin/audit", "/admin/audit/chain"]
LOOKING += ["/admin/organisations/farm"]


async def test_a_form_without_its_token_changes_nothing(world: World) -> None:
    async with reading(world, "admin") as admin:
        await admin.open("/admin/users/ann/disable")
        await admin.post("/admin/users/ann/disable", {"sure": "yes"}, 403)
        await admin.post("/admin/roles/_new", {"name": "sneaky"}, 403)
    assert not (await accounts.get("ann")).disabled


# ---- people


async def test_people_are_found_by_words_role_and_access(world: World) -> None:
    async with reading(world, "admin") as admin:
        assert names(await admin.open("/admin/users")) == {"Ann", "Bob", "Eve", "Admin"}
        assert names(await admin.open("/admin/users?q=bob%40msingi.test")) == {"Bob"}
        assert names(await admin.open("/admin/users?role=admin&access=&q=&sort=name")) == {"Admin"}
        assert "Nobody fits." in await admin.open("/admin/users?access=closed")
        await admin.open("/admin/users/eve/disable")
        await admin.send("/admin/users/eve/disable")
        assert names(await admin.open("/admin/users?access=closed")) == {"Eve"}
        await admin.open("/admin/users?sort=password", 422)


def names(page: str) -> set[str]:
    return set(re.findall(r'<a href="/admin/users/\w+">([^<]+)</a>', page))


async def test_more_people_than_fit_come_on_pages_that_keep_what_was_asked(world: World) -> None:
    async with reading(world, "admin") as admin:
        first = await admin.open("/admin/users?q=test&sort=name&limit=3")
        assert names(first) == {"Admin", "Ann", "Bob"}
        more = re.search(r'<a href="(/admin/users\?q=test[^"]*sort=name[^"]*)">More', first)
        assert more
        assert names(await admin.open(more[1])) == {"Eve"}


async def test_somebody_new_is_added_and_a_taken_address_is_told(world: World) -> None:
    asked: dict[str, Any] = {
        "name": "Grace",
        "email": "grace@msingi.test",
        "password": "seven herons over the lake",
        "roles": "admin",
    }
    async with reading(world, "admin") as admin:
        await admin.open("/admin/users/new")
        there = await admin.send("/admin/users/new", **asked)
        page = await admin.open(there)
        assert "Grace" in page
        assert "The account is made." in page
        await admin.open("/admin/users/new")
        again = await admin.send("/admin/users/new", 409, **asked)
        assert "There is an account with this e-mail address already." in again
        assert 'value="grace@msingi.test"' in again
        assert asked["password"] not in again
        wrong = await admin.send("/admin/users/new", 422, **asked | {"password": "short", "email": "g2@msingi.test"})
        assert "at least 15 characters" in wrong
    found = await accounts.many({"roles": "admin"})
    assert {each.name for each in found} == {"Admin", "Grace"}


async def test_somebody_is_brought_with_a_hash_and_a_broken_one_is_told(world: World) -> None:
    async with reading(world, "admin") as admin:
        await admin.open("/admin/users/import")
        given: dict[str, Any] = {"name": "Juma", "email": "juma@msingi.test"}
        page = await admin.send("/admin/users/import", 422, **given, password_hash="md5 of something")
        assert 'value="Juma"' in page
        there = await admin.send("/admin/users/import", **given, password_hash=BCRYPT)
        assert "juma@msingi.test" in await admin.open(there)


async def test_one_page_shows_all_that_there_is_of_somebody_and_no_secret(world: World) -> None:
    await sign_in(world, "ann")
    await _give_ann()
    async with reading(world, "admin") as admin:
        page = await admin.open("/admin/users/ann")
        for shown in ("ann@msingi.test", "Shamba la Mfano", "Nightly", "ann@acme.test", "An authenticator app"):
            assert shown in page, shown
        assert "through the API" in page
        assert "Somebody signed in" in page
        account = await accounts.get("ann")
        assert account.password not in page
        assert "JBSWY3DPEHPK3PXP" not in page
        await admin.open("/admin/users/nobody", 404)
        await admin.open("/admin/users/ann/fly", 404)


@guarded
async def _keep(store: object, doc: object) -> None:
    await store.add(doc)  # type: ignore[attr-defined]


async def _give_ann() -> None:
    ends = clock.now() + timedelta(days=30)
    await _keep(api_keys, ApiKey(account="ann", name="Nightly", secret=b"x", scopes=["notes:read"], expires_at=ends))
    there: dict[str, Any] = {"account": "ann", "provider": "acme", "issuer": "https://acme.test", "subject": "1"}
    await _keep(identities, Identity(id="at-acme", email="ann@acme.test", **there))
    await _keep(factors, Factors(id="ann", totp="JBSWY3DPEHPK3PXP", totp_at=clock.now()))


async def test_name_and_roles_are_changed_and_an_old_form_is_refused(world: World) -> None:
    async with reading(world, "admin") as admin:
        await admin.open("/admin/users/ann/edit")
        old = admin.page
        assert await admin.send("/admin/users/ann/edit", name="Anna", roles=["admin"]) == "/admin/users/ann?done=saved"
        ann = await accounts.get("ann")
        assert (ann.name, ann.roles) == ("Anna", ["user", "admin"])
        admin.page = old
        page = await admin.send("/admin/users/ann/edit", 409, name="Annie", roles=[])
        assert "It changed while you were at it" in page
        await admin.send("/admin/users/ann/edit", name="Ann", roles=[])
    assert (await accounts.get("ann")).roles == ["user"]


async def test_a_disabled_person_is_out_until_they_are_enabled(world: World) -> None:
    async with reading(world, "ann") as ann, reading(world, "admin") as admin:
        await admin.open("/admin/users/ann/disable")
        assert await admin.send("/admin/users/ann/disable") == "/admin/users/ann?done=user_disabled"
        assert "The account is disabled." in await admin.open("/admin/users/ann?done=user_disabled")
        assert (await ann.http.get("/account")).status_code == 303
        await admin.open("/admin/users/ann/reset-letter")
        assert "This account is disabled." in await admin.send("/admin/users/ann/reset-letter", 403)
        await admin.open("/admin/users/ann/enable")
        await admin.send("/admin/users/ann/enable")
    await sign_in(world, "ann")


async def test_z4_the_last_admin_is_told_in_words_why_they_remain(world: World) -> None:
    async with reading(world, "admin", **{"accept-language": "sw"}) as admin:
        await admin.open("/admin/users/admin/disable")
        page = await admin.send("/admin/users/admin/disable", 409)
        assert words()[inspect.cleandoc(rules.people.LastAdmin.__doc__ or "")] in page
        await admin.open("/admin/users/admin/edit?lang=en")
        admin.http.headers["accept-language"] = "en"
        page = await admin.send("/admin/users/admin/edit", 409, name="Admin", roles=[])
        assert "Somebody has to remain who may look after the others." in page
        await admin.open("/admin/users/admin/erasure")
        page = await admin.send("/admin/users/admin/erasure", 409, sure="yes")
        assert "Somebody has to remain who may look after the others." in page
    assert (await accounts.get("admin")).roles == ["user", "admin"]


async def test_sessions_end_one_by_one_and_all_together(world: World) -> None:
    async with reading(world, "ann") as first, reading(world, "ann") as second, reading(world, "admin") as admin:
        page = await admin.open("/admin/users/ann")
        paths = re.findall(r'href="(/admin/users/ann/sessions/[^"]+)"', page)
        assert len(paths) == 2
        await admin.open(paths[1])
        assert await admin.send(paths[1]) == "/admin/users/ann?done=session_ended"
        assert (await first.http.get("/account")).status_code == 303
        await second.open("/account")
        await admin.open("/admin/users/ann/sign-out")
        assert await admin.send("/admin/users/ann/sign-out") == "/admin/users/ann?done=sessions_ended"
        assert (await second.http.get("/account")).status_code == 303
        assert "Not signed in anywhere." in await admin.open("/admin/users/ann")
        await admin.open(paths[0], 404)
    kinds = {each.kind: each.actor for each in await audit.entries.many({"about": "ann"})}
    assert kinds["accounts.session_ended"] == kinds["accounts.sessions_ended"] == "admin"


async def test_factors_are_reset_and_a_letter_lets_them_choose_a_password(world: World) -> None:
    await _give_ann()
    async with reading(world, "admin") as admin:
        await admin.open("/admin/users/ann/factors")
        await admin.send("/admin/users/ann/factors")
        assert "None: the password alone lets them in." in await admin.open("/admin/users/ann")
        await admin.open("/admin/users/ann/reset-letter")
        assert await admin.send("/admin/users/ann/reset-letter") == "/admin/users/ann?done=reset_letter"
        page = await admin.open("/admin/users/ann")
        assert "An admin sent a letter to set a new password" in page
    await world.work()
    assert await ticket_for(world, "reset", "ann@msingi.test")


async def test_an_erasure_needs_the_box_and_says_which_organisations_are_in_the_way(world: World) -> None:
    async with reading(world, "admin") as admin:
        await admin.open("/admin/users/ann/erasure")
        await admin.send("/admin/users/ann/erasure", 422)
        page = await admin.send("/admin/users/ann/erasure", 409, sure="yes")
        assert "Shamba la Mfano" in page
        assert (
            await admin.send("/admin/users/ann/erasure", sure="yes", pass_on="true") == "/admin/users?done=user_erased"
        )
        await admin.open("/admin/users/ann", 404)
    assert await accounts.find({"_id": "ann"}) is None


async def test_a20_acting_for_somebody_has_a_reason_and_an_end(world: World) -> None:
    async with reading(world, "admin") as admin:
        await admin.open("/admin/users/ann/impersonation")
        assert "at least 3 characters" in await admin.send("/admin/users/ann/impersonation", 422, reason="x")
        assert await admin.send("/admin/users/ann/impersonation", reason="Ticket 4711") == "/account"
        assert "ann@msingi.test" in await admin.open("/account")
        await admin.open("/admin/users", 403)
        await admin.open("/account/email", 403)
        await admin.http.post("/v1/accounts/sign-out", headers={**OWN_PAGE, "x-csrf-token": admin.token})
        assert (await admin.http.get("/account")).status_code == 303
    found = await audit.entries.many({"kind": "accounts.impersonation_began"})
    assert [(each.actor, each.about, each.facts["reason"]) for each in found] == [("admin", "ann", "Ticket 4711")]


async def test_a20_nobody_acts_for_an_admin_and_the_page_says_why(world: World) -> None:
    async with reading(world, "admin", **{"accept-language": "sw"}) as admin:
        await admin.open("/admin/users/admin/impersonation")
        page = await admin.send("/admin/users/admin/impersonation", 409, reason="Ticket 4711")
        assert "Hakuna anayetenda kwa jina la mtu huyu: ni wewe mwenyewe." in page


# ---- roles


async def test_a_role_is_made_changed_given_and_deleted(world: World) -> None:
    async with reading(world, "admin") as admin:
        await admin.open("/admin/roles/_new")
        made = await admin.send("/admin/roles/_new", name="helper", about="Helps", permissions=["users:manage"])
        assert made == "/admin/roles/helper?done=role_made"
        page = await admin.send("/admin/roles/_new", 409, name="helper", permissions=["users:manage"])
        assert "There is a role with this name already." in page
        assert re.search(r'value="users:manage" checked', page)
        await admin.open("/admin/users/bob/edit")
        await admin.send("/admin/users/bob/edit", name="Bob", roles=["helper"])
        assert names(await admin.open("/admin/roles/helper")) == {"Bob"}
        await admin.open("/admin/roles/helper/permissions")
        await admin.send("/admin/roles/helper/permissions", about="", permissions=["audit:read"])
        assert "audit:read" in await admin.open("/admin/roles/helper")
        await admin.open("/admin/roles/helper/removal")
        assert "People hold this role" in await admin.send("/admin/roles/helper/removal", 409)
        await admin.open("/admin/users/bob/edit")
        await admin.send("/admin/users/bob/edit", name="Bob")
        await admin.open("/admin/roles/helper/removal")
        assert await admin.send("/admin/roles/helper/removal") == "/admin/roles?done=role_removed"
        await admin.open("/admin/roles/helper", 404)
        await admin.open("/admin/roles/_new")
        assert "this will not do" in await admin.send("/admin/roles/_new", 422, name="Not a name")


async def test_a11_what_admins_keep_cannot_be_unticked_and_a_changed_role_is_set_back(world: World) -> None:
    async with reading(world, "admin") as admin:
        page = await admin.open("/admin/roles/admin/permissions")
        assert re.search(r'value="roles:manage" checked disabled', page)
        await admin.send("/admin/roles/admin/permissions", about="Ours", permissions=["audit:read"])
        await admin.open("/admin/roles/admin")
        page = await admin.open("/admin/roles/admin")
        assert "users:manage" in page
        assert "limits:manage" not in page
        await admin.open("/admin/roles/admin/removal")
        assert await admin.send("/admin/roles/admin/removal") == "/admin/roles?done=role_reset"
        assert "limits:manage" in await admin.open("/admin/roles/admin")


# ---- organisations


async def test_an_abused_organisation_is_found_and_deleted(world: World) -> None:
    async with reading(world, "admin") as admin:
        assert "Shamba la Mfano" in await admin.open("/admin/organisations?q=shamba")
        assert "None fits." in await admin.open("/admin/organisations?q=nowhere")
        page = await admin.open("/admin/organisations/farm")
        assert names(page) == {"Ann"}
        await admin.open("/admin/organisations/farm/removal")
        there = "/admin/organisations?done=organisation_removed"
        assert await admin.send("/admin/organisations/farm/removal") == there
        await admin.open("/admin/organisations/farm", 404)
        assert "Shamba la Mfano" not in await admin.open("/admin/organisations")


# ---- the audit log


async def test_l1_the_log_is_filtered_and_says_who_in_words(world: World) -> None:
    await sign_in(world, "ann")
    async with reading(world, "admin") as admin:
        await admin.open("/admin/users/bob/disable")
        await admin.send("/admin/users/bob/disable")
        changed = rows(await admin.open("/admin/audit?kind=accounts.user_changed"))
        assert len(changed) == 1
        assert "An account was changed" in changed[0]
        assert names(changed[0]) == {"Admin", "Bob"}
        assert "no → yes" in changed[0]
        query = {"actor": "ann@msingi.test", "kind": "", "about": "", "outcome": "done", "since": "", "until": ""}
        assert names(await admin.open(f"/admin/audit?{urlencode(query)}")) == {"Ann"}
        assert "Nothing." in await admin.open("/admin/audit?about=bob&outcome=refused")
        today = f"{clock.now():%Y-%m-%d}"
        assert rows(await admin.open(f"/admin/audit?since={today}&until={today}"))
        assert not rows(await admin.open("/admin/audit?until=2020-01-01"))
        page = await admin.open("/admin/audit?since=tomorrow", 422)
        assert "this is no day" in page
        first = await admin.open("/admin/audit?limit=1")
        older = re.search(r'<a href="(/admin/audit\?[^"]*after=[^"]*)">Older', first)
        assert older
        assert rows(await admin.open(older[1])) != rows(first)


def rows(page: str) -> list[str]:
    return re.findall(r"<tr>\s*<td>.*?</tr>", page, re.DOTALL)


async def test_l1_the_chain_is_checked_and_an_edited_entry_is_found(world: World) -> None:
    await sign_in(world, "ann")
    async with reading(world, "admin") as admin:
        assert "The log is as it was written." in await admin.open("/admin/audit/chain")
        await audit.entries.raw.update_one({"actor": "ann"}, {"$set": {"actor": "eve"}})
        page = await admin.open("/admin/audit/chain")
        assert "The log is not as it was written:" in page
        assert 'role="alert"' in page


# ---- programs


async def test_a_program_is_registered_with_its_secret_shown_once_and_then_changed(world: World) -> None:
    asked: dict[str, Any] = {"name": "Diary", "kind": "confidential", "scopes": ["openid", "notes:read"]}
    async with reading(world, "admin") as admin:
        await admin.open("/admin/clients/new")
        page = await admin.send("/admin/clients/new", 422, **asked)
        assert "name at least one" in page
        assert 'value="Diary"' in page
        page = await admin.send("/admin/clients/new", 422, **asked, redirect_uris="http://evil.example/back")
        assert "it wants https://" in page
        page = await admin.send("/admin/clients/new", 200, **asked, redirect_uris="https://diary.example/back\r\n")
        secret = re.search(r'id="secret"[^>]*>(cs1_[^<]+)<', page)
        assert secret
        assert admin.page.headers["cache-control"] == "no-store"
        found = await clients.find({"name": "Diary"})
        assert found
        here = f"/admin/clients/{found.id}"
        assert secret[1] not in await admin.open(here)
        await admin.open(f"{here}/edit")
        changed: dict[str, Any] = {
            "name": "Farm diary",
            "scopes": ["openid"],
            "redirect_uris": "https://diary.example/back",
        }
        assert await admin.send(f"{here}/edit", **changed, first_party="true") == f"{here}?done=saved"
        after = await clients.get(found.id)
        assert (after.name, after.scopes, after.first_party) == ("Farm diary", ["openid"], True)
        await admin.open(f"{here}/secret")
        renewed = re.search(r'id="secret"[^>]*>(cs1_[^<]+)<', await admin.send(f"{here}/secret", 200))
        assert renewed
        assert renewed[1] != secret[1]
        assert len((await clients.get(found.id)).secrets) == 2
        await admin.open(f"{here}/removal")
        assert await admin.send(f"{here}/removal") == "/admin/clients?done=client_removed"
        await admin.open(here, 404)


async def test_a_public_program_has_no_secret_to_renew(world: World) -> None:
    async with reading(world, "admin") as admin:
        await admin.open("/admin/clients/new")
        asked: dict[str, Any] = {
            "name": "Telephone",
            "kind": "public",
            "redirect_uris": "http://127.0.0.1/back",
            "scopes": ["openid"],
        }
        page = await admin.send("/admin/clients/new", 200, **asked)
        assert "A public program has no secret." in page
        found = await clients.find({"name": "Telephone"})
        assert found
        await admin.open(f"/admin/clients/{found.id}/secret")
        assert "A public program has no secret." in await admin.send(f"/admin/clients/{found.id}/secret", 409)


# ---- limits


async def test_r3_a_limit_is_changed_and_set_back(world: World) -> None:
    default = state.settings().member_limit
    async with reading(world, "admin") as admin:
        assert default in await admin.open("/admin/limits")
        await admin.open("/admin/limits/member")
        assert "This is no limit" in await admin.send("/admin/limits/member", 422, limit="often")
        assert 'value="often"' in admin.page.text
        await admin.open("/admin/limits/member")
        assert await admin.send("/admin/limits/member", limit="777/minute") == "/admin/limits?done=limit_changed"
        assert "777/minute" in await admin.open("/admin/limits")
        await admin.open("/admin/limits/member/default")
        assert await admin.send("/admin/limits/member/default") == "/admin/limits?done=limit_reset"
        assert "777/minute" not in await admin.open("/admin/limits")
        await admin.open("/admin/limits/nothing", 404)
