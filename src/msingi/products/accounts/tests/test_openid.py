"""Being the OpenID provider: each way in which a code, a token or a browser could end up with the wrong one is shut."""

import asyncio
import re
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from msingi.kit import audit, clock
from msingi.kit.testing import PASSWORD, Client, World
from msingi.products.accounts.models.people import accounts
from msingi.products.accounts.tests.people import with_token
from msingi.products.accounts.tests.programs import (
    BACK,
    PAGE,
    VERIFIER,
    Browser,
    Row,
    ask,
    let_in,
    redeemed,
    registered,
    request_of,
    told,
)

DEVICE = "urn:ietf:params:oauth:grant-type:device_code"


async def browser_of(world: World, who: str = "ann") -> Browser:
    return await Browser(world).sign_in(who)


async def refreshed(world: World, program: Row, token: str, expect: int = 200, **more: str) -> Row:
    return await ask(world, "/oauth/token", program, expect, grant_type="refresh_token", refresh_token=token, **more)


# ---- the right way through


async def test_a_person_says_yes_and_the_program_gets_tokens_for_what_they_said_yes_to(
    world: World, admin: Client
) -> None:
    program = await registered(admin)
    tokens = await let_in(world, program)
    assert set(tokens) == {"access_token", "refresh_token", "id_token", "token_type", "expires_in", "scope"}
    assert (tokens["token_type"], tokens["expires_in"]) == ("Bearer", 600)
    assert tokens["scope"] == "email offline_access openid"
    person = await with_token(world, tokens).get("//oauth/userinfo")
    assert person == {"sub": "ann", "email": "ann@msingi.test", "email_verified": person["email_verified"]}


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")  # by RFC 9864, for a name that few read yet
async def test_the_id_token_says_who_signed_in_how_and_when_to_this_program_only(world: World, admin: Client) -> None:
    program = await registered(admin)
    before = int(clock.seconds())
    tokens = await let_in(world, program)
    async with world.client(None).http as http:
        keys = KeySet.import_key_set((await http.get("/.well-known/jwks.json")).json())
    read = jwt.decode(tokens["id_token"], keys, algorithms=["EdDSA"])
    claims = read.claims
    assert read.header["typ"] == "JWT"
    assert {name: claims[name] for name in ("iss", "sub", "aud", "nonce", "amr")} == {
        "iss": "http://msingi.test",
        "sub": "ann",
        "aud": program["id"],
        "nonce": "n-1",
        "amr": ["pwd"],
    }
    assert before <= claims["auth_time"] <= claims["iat"] <= claims["exp"] - 600
    assert len(claims["at_hash"]) == 43
    # It is no access token, however well it is signed.
    await with_token(world, {"access_token": tokens["id_token"]}).get("/me", expect=401)


async def test_who_said_yes_is_not_asked_again_for_as_much_but_for_more(world: World, admin: Client) -> None:
    program = await registered(admin)
    browser = await browser_of(world)
    await browser.code(request_of(program))
    assert "code" in told(await browser.authorize(request_of(program, prompt="none")))
    assert (await browser.authorize(request_of(program, scope="openid profile"))).status_code == 200
    assert (await browser.authorize(request_of(program, prompt="consent"))).status_code == 200
    assert told(await browser.authorize(request_of(program, scope="openid profile", prompt="none"))) == {
        "error": "consent_required",
        "error_description": "The person has to be asked first, and prompt=none forbids it.",
        "state": "s-1",
        "iss": "http://msingi.test",
    }


async def test_nobody_is_asked_for_a_program_of_the_house(world: World, admin: Client) -> None:
    program = await registered(admin, first_party=True)
    browser = await browser_of(world)
    assert "code" in told(await browser.authorize(request_of(program)))


async def test_who_says_no_is_sent_back_with_just_that(world: World, admin: Client) -> None:
    program = await registered(admin)
    browser = await browser_of(world)
    said = told(await browser.press(await browser.authorize(request_of(program)), answer="deny"))
    assert (said["error"], said["state"]) == ("access_denied", "s-1")
    assert await audit.entries.exists({"kind": "accounts.program_let_in", "outcome": "refused", "actor": "ann"})


async def test_the_page_that_asks_may_send_its_form_on_to_the_program_and_nowhere_else(
    world: World, admin: Client
) -> None:
    browser = await browser_of(world)
    page = await browser.authorize(request_of(await registered(admin, name="<b>Diary</b>")))
    assert "form-action 'self' https://diary.example;" in page.headers["content-security-policy"]
    assert "&lt;b&gt;Diary" in page.text
    in_swahili = await browser.http.get(f"{page.url}&lang=sw", headers={"accept": "text/html"})
    assert "Ruhusu" in in_swahili.text


# ---- who is not signed in, or not recently enough


async def test_who_is_not_signed_in_is_led_there_and_back(world: World, admin: Client) -> None:
    program = await registered(admin, first_party=True)
    browser = Browser(world)
    reply = await browser.authorize(request_of(program))
    assert reply.headers["location"].startswith("/sign-in?back=%2Foauth%2Fcontinue")
    back = dict(parse_qsl(urlsplit(reply.headers["location"]).query))["back"]
    await browser.sign_in()
    page = await browser.http.get(back)
    onward = re.search(r'http-equiv="refresh" content="0; url=([^"]+)"', page.text)
    assert onward
    assert "code" in told(await browser.http.get(onward[1].replace("&amp;", "&")))
    assert told(await Browser(world).authorize(request_of(program, prompt="none")))["error"] == "login_required"


async def test_a_program_can_ask_for_a_proof_that_is_no_older_than_it_says(world: World, admin: Client) -> None:
    program = await registered(admin, first_party=True)
    browser = await browser_of(world)
    assert "code" in told(await browser.authorize(request_of(program, max_age="60")))
    with clock.shifted(timedelta(seconds=61)):
        late = await browser.authorize(request_of(program, max_age="60"))
        assert late.headers["location"].startswith("/sign-in")
        assert (
            told(await browser.authorize(request_of(program, max_age="60", prompt="none")))["error"] == "login_required"
        )
        assert "code" in told(await browser.authorize(request_of(program, max_age="62")))


async def test_prompt_login_wants_a_new_proof_and_its_mark_cannot_be_made_up(world: World, admin: Client) -> None:
    program = await registered(admin, first_party=True)
    browser = await browser_of(world)
    asked = request_of(program, prompt="login")
    with clock.shifted(timedelta(seconds=5)):
        for made_up in (None, "1", "0.00", "1.é"):
            reply = await browser.authorize(asked | ({"since": made_up} if made_up else {}))
            assert reply.headers["location"].startswith("/sign-in"), made_up
        back = dict(parse_qsl(urlsplit(reply.headers["location"]).query))["back"]
        onward = back.replace("/oauth/continue", "/oauth/authorize")
        assert (await browser.http.get(onward)).headers["location"].startswith("/sign-in")  # not signed in anew
        await browser.sign_in()
        assert "code" in told(await browser.http.get(onward))


# ---- A15: what is asked for, and where people are sent


@pytest.mark.parametrize(
    "changes",
    [
        {"redirect_uri": None},
        {"redirect_uri": "https://evil.example/back"},
        {"redirect_uri": f"{BACK}/more"},
        {"redirect_uri": f"{BACK}?x=1"},
        {"redirect_uri": "https://diary.example/back#x"},
        {"redirect_uri": "https://diary.example@evil.example/back"},
        {"redirect_uri": "http://diary.example/back"},
        {"redirect_uri": "https://DIARY.example/back"},
        {"client_id": None},
        {"client_id": "nobody"},
        {"redirect_uri": "//evil.example", "response_type": "token"},
    ],
    ids=str,
)
async def test_a15_no_open_redirect_before_the_address_is_known_to_be_the_programs(
    world: World, admin: Client, changes: dict[str, str | None]
) -> None:
    browser = await browser_of(world)
    reply = await browser.authorize(request_of(await registered(admin), **changes))
    assert reply.status_code == 400
    assert "location" not in reply.headers


async def test_a15_a_parameter_that_stands_twice_is_refused_and_not_chosen_from(world: World, admin: Client) -> None:
    program = await registered(admin)
    browser = await browser_of(world)
    reply = await browser.http.get(
        "/oauth/authorize", params=[*request_of(program).items(), ("redirect_uri", "https://evil.example")]
    )
    assert reply.status_code == 400
    async with world.client(None).http as http:
        twice = await http.post(
            "/oauth/token",
            content="grant_type=refresh_token&grant_type=client_credentials",
            headers={"content-type": "application/x-www-form-urlencoded"},
        )
    assert twice.json()["error"] == "invalid_request"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code id_token"}, "unsupported_response_type"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": "plain", "code_challenge": VERIFIER}, "invalid_request"),
        ({"code_challenge_method": None, "code_challenge": VERIFIER}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"scope": "openid tasks:write"}, "invalid_scope"),
        ({"scope": None}, "invalid_scope"),
        ({"prompt": "none login"}, "invalid_request"),
        ({"max_age": "-1"}, "invalid_request"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"request": "eyJ"}, "request_not_supported"),
        ({"request_uri": "https://evil.example/r"}, "request_uri_not_supported"),
        ({"nonce": "n" * 513}, "invalid_request"),
    ],
    ids=str,
)
async def test_a15_no_pkce_downgrade_and_nothing_that_was_not_registered(
    world: World, admin: Client, changes: dict[str, str | None], error: str
) -> None:
    browser = await browser_of(world)
    reply = await browser.authorize(request_of(await registered(admin), **changes))
    assert reply.headers["location"].startswith(f"{BACK}?error=")
    said = told(reply)
    assert (said["error"], said["iss"], said["state"]) == (error, "http://msingi.test", "s-1")


async def test_a15_every_answer_names_who_gives_it_against_mix_up(world: World, admin: Client) -> None:
    browser = await browser_of(world)
    program = await registered(admin, first_party=True)
    assert told(await browser.authorize(request_of(program)))["iss"] == "http://msingi.test"


async def test_a14_a_foreign_page_cannot_say_yes_for_a_person(world: World, admin: Client) -> None:
    program = await registered(admin)
    browser = await browser_of(world)
    page = await browser.authorize(request_of(program))
    asked = {"asked": str(page.url.query.decode()), "answer": "allow"}
    for headers in ({"origin": "https://evil.example"}, PAGE):  # from elsewhere, and without the token
        assert (await browser.http.post("/oauth/authorize", data=asked, headers=headers)).status_code == 403
    other = await browser_of(world, "bob")
    theirs = re.search(r'name="_csrf" value="([^"]+)"', (await other.authorize(request_of(program))).text)
    assert theirs
    sent = asked | {"_csrf": theirs[1]}
    assert (await browser.http.post("/oauth/authorize", data=sent, headers=PAGE)).status_code == 403
    assert (await browser.authorize(request_of(program))).status_code == 200  # nothing was granted


async def test_a_program_on_the_same_machine_takes_any_port_there_and_no_other_place(
    world: World, admin: Client
) -> None:
    program = await registered(admin, kind="public", redirect_uris=["http://127.0.0.1/back"], first_party=True)
    browser = await browser_of(world)
    there = "http://127.0.0.1:49152/back"
    code = told(await browser.authorize(request_of(program, redirect_uri=there)))["code"]
    tokens = await redeemed(world, program, code, redirect_uri=there)
    assert tokens["scope"] == "email offline_access openid"
    for elsewhere in ("http://localhost:1/back", "http://127.0.0.1:49152/other", "http://127.0.0.1.evil.example/back"):
        assert (await browser.authorize(request_of(program, redirect_uri=elsewhere))).status_code == 400


# ---- codes


async def test_a15_a_code_is_good_once_and_what_it_gave_ends_when_it_comes_again(world: World, admin: Client) -> None:
    program = await registered(admin)
    browser = await browser_of(world)
    code = await browser.code(request_of(program))
    tokens = await redeemed(world, program, code)
    assert (await redeemed(world, program, code, 400))["error"] == "invalid_grant"
    await with_token(world, tokens).get("//oauth/userinfo", expect=401)
    assert (await refreshed(world, program, tokens["refresh_token"], 400))["error"] == "invalid_grant"
    assert await audit.entries.exists({"kind": "accounts.code_replayed", "about": program["id"]})


async def test_a15_of_twenty_who_redeem_a_code_at_once_one_gets_tokens(world: World, admin: Client) -> None:
    program = await registered(admin)
    browser = await browser_of(world)
    code = await browser.code(request_of(program))
    fields = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK, "code_verifier": VERIFIER}
    async with world.client(None).http as http:
        auth = (program["id"], program["client_secret"])
        asked = (http.post("/oauth/token", data=fields, auth=auth) for _ in range(20))
        replies = await asyncio.gather(*asked)
    assert sorted(reply.status_code for reply in replies) == [200] + [400] * 19
    assert {reply.json()["error"] for reply in replies if reply.status_code == 400} == {"invalid_grant"}
    won = next(reply.json() for reply in replies if reply.status_code == 200)
    await with_token(world, won).get("//oauth/userinfo", expect=401)  # it was in more than one hand


async def test_a15_a_stolen_code_is_of_no_use_without_its_verifier_its_address_or_its_program(
    world: World, admin: Client
) -> None:
    program, other = await registered(admin), await registered(admin, name="Other")
    browser = await browser_of(world)
    code = await browser.code(request_of(program))
    assert (await redeemed(world, program, code, 400, code_verifier="w" * 43))["error"] == "invalid_grant"
    assert (await redeemed(world, program, code, 400, redirect_uri="https://evil.example"))["error"] == "invalid_grant"
    assert (await redeemed(world, other, code, 400))["error"] == "invalid_grant"
    assert (await redeemed(world, program, code[:-2] + "AA", 400))["error"] == "invalid_grant"
    stolen = {**program, "client_secret": "cs1_guess"}
    assert (await redeemed(world, stolen, code, 401))["error"] == "invalid_client"
    await redeemed(world, program, code)  # none of them used it up


async def test_a15_a_code_lives_a_minute_and_no_longer_than_the_sign_in(world: World, admin: Client) -> None:
    program = await registered(admin)
    browser = await browser_of(world)
    code = await browser.code(request_of(program))
    with clock.shifted(timedelta(seconds=61)):
        assert (await redeemed(world, program, code, 400))["error"] == "invalid_grant"
    code = await browser.code(request_of(program))
    token = (await browser.http.get("/v1/accounts/csrf")).json()["csrf_token"]
    await browser.http.post("/v1/accounts/sign-out", headers=PAGE | {"x-csrf-token": token})
    assert (await redeemed(world, program, code, 400))["error"] == "invalid_grant"


# ---- programs


async def test_a_programs_secret_is_shown_once_kept_hashed_and_renewed_without_a_gap(
    world: World, admin: Client
) -> None:
    program = await registered(admin, service=True, scopes=["questions:ask"])
    assert "client_secret" not in await admin.get(f"/clients/{program['id']}")
    newer = await admin.post(f"/clients/{program['id']}/secret")
    for secret in (program["client_secret"], newer["client_secret"]):
        await ask(world, "/oauth/token", {**program, "client_secret": secret}, grant_type="client_credentials")
    with clock.shifted(timedelta(hours=25)):
        await ask(world, "/oauth/token", program, 401, grant_type="client_credentials")
        await ask(world, "/oauth/token", newer, grant_type="client_credentials")


async def test_a_program_proves_itself_in_one_way_and_only_if_it_has_what_to(world: World, admin: Client) -> None:
    program = await registered(admin, service=True, scopes=["questions:ask"])
    public = await registered(admin, kind="public")
    async with world.client(None).http as http:
        form = {"grant_type": "client_credentials", "client_id": program["id"]}
        posted = await http.post("/oauth/token", data=form | {"client_secret": program["client_secret"]})
        assert posted.status_code == 200
        refused = await http.post("/oauth/token", data=form)
        assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")
        assert refused.headers["www-authenticate"].startswith("Basic ")
        both = await http.post(
            "/oauth/token", data=form | {"client_secret": "x"}, auth=(program["id"], program["client_secret"])
        )
        assert both.json()["error"] == "invalid_request"
        json_sent = await http.post("/oauth/token", json=form)
        assert json_sent.json()["error"] == "invalid_request"
    posing = {**public, "client_secret": "cs1_anything"}
    assert (await ask(world, "/oauth/token", posing, 401, grant_type="x"))["error"] == "invalid_client"
    assert (await ask(world, "/oauth/token", public, 400, grant_type="password"))["error"] == "unsupported_grant_type"
    said = await ask(world, "/oauth/token", public, 400, grant_type="client_credentials")
    assert said["error"] == "unauthorized_client"


async def test_l1_who_guesses_a_secret_is_noted_and_soon_has_to_wait(world: World, admin: Client) -> None:
    program = await registered(admin)
    guess = {**program, "client_secret": "cs1_guess"}
    async with world.client(None).http as http:
        auth = (program["id"], guess["client_secret"])
        asked = (http.post("/oauth/token", data={"grant_type": "x"}, auth=auth) for _ in range(61))
        replies = await asyncio.gather(*asked)
    assert sorted(reply.status_code for reply in replies) == [401] * 60 + [429]
    noted = {"kind": "accounts.client_refused", "outcome": "refused", "facts.client": program["id"]}
    assert await audit.entries.count(noted) == 60
    assert (await ask(world, "/oauth/token", program, 400, grant_type="x"))["error"] == "unsupported_grant_type"


@pytest.mark.parametrize(
    "changes",
    [
        {"redirect_uris": ["http://diary.example/back"]},
        {"redirect_uris": ["javascript:alert(1)"]},
        {"redirect_uris": ["https://diary.example/back#part"]},
        {"redirect_uris": ["https://user@diary.example/"]},
        {"redirect_uris": ["https://diary.example; script-src *"]},
        {"redirect_uris": ["https://*.example/"]},
        {"redirect_uris": []},
        {"post_logout_redirect_uris": ["http://evil.example"]},
        {"scopes": ["users:manage"]},
        {"scopes": ["questions:ask"]},
        {"service": True, "kind": "public"},
        {"kind": "secret"},
        {"token_version": 3},
    ],
    ids=str,
)
async def test_a_program_that_would_not_be_safe_is_not_registered(
    world: World, admin: Client, changes: dict[str, Any]
) -> None:
    form = {"name": "Diary", "kind": "confidential", "redirect_uris": [BACK], "scopes": ["openid"]} | changes
    await admin.post("/clients", json=form, expect=422)
    assert (await admin.get("/clients"))["items"] == []


async def test_a_program_that_is_removed_takes_all_its_sessions_along(world: World, admin: Client) -> None:
    program = await registered(admin, service=True, scopes=["openid", "offline_access", "questions:ask"])
    tokens = await let_in(world, program, scope="openid offline_access")
    own = await ask(world, "/oauth/token", program, grant_type="client_credentials")
    await admin.delete(f"/clients/{program['id']}")
    await with_token(world, tokens).get("//oauth/userinfo", expect=401)
    await with_token(world, own).get("//oauth/userinfo", expect=401)
    await refreshed(world, program, tokens["refresh_token"], 401)


# ---- tokens of programs


async def test_a_program_reaches_what_its_scopes_say_and_never_what_only_the_person_may(
    world: World, admin: Client
) -> None:
    program = await registered(admin)
    reader = with_token(world, await let_in(world, program, scope="openid accounts:read"))
    assert (await reader.get("/me"))["id"] == "ann"
    problem = await reader.patch("/me", json={"name": "Eve"}, expect=403)
    assert problem["code"] == "insufficient_scope"
    form = {"current_password": PASSWORD, "new_password": "seven herons over the lake"}
    await reader.post("/me/password", json=form, expect=403)
    await reader.get("//oauth/authorize", expect=[400, 403])
    only_me = with_token(world, await let_in(world, program, who="bob", scope="openid"))
    await only_me.get("/me", expect=403)


async def test_a10_a_programs_refresh_tokens_are_used_once_and_good_for_that_program_only(
    world: World, admin: Client, nobody: Client
) -> None:
    program, other = await registered(admin), await registered(admin, name="Other")
    first = await let_in(world, program)
    await refreshed(world, other, first["refresh_token"], 400)
    await nobody.post("/refresh", refresh_token=first["refresh_token"], expect=401)
    second = await refreshed(world, program, first["refresh_token"], scope="openid")
    assert second["scope"] == "openid"
    third = await refreshed(
        world, program, second["refresh_token"] if "refresh_token" in second else first["refresh_token"]
    )
    assert third["scope"] == "email offline_access openid"
    wider = await refreshed(world, program, third["refresh_token"], 400, scope="openid profile")
    assert wider["error"] == "invalid_scope"
    with clock.shifted(timedelta(seconds=11)):
        await refreshed(world, program, first["refresh_token"], 400)  # in two hands: it is over
        await refreshed(world, program, third["refresh_token"], 400)
    await with_token(world, third).get("//oauth/userinfo", expect=401)


async def test_without_offline_access_it_is_over_with_the_access_token(
    world: World, admin: Client, ann: Client
) -> None:
    tokens = await let_in(world, await registered(admin), scope="openid")
    assert "refresh_token" not in tokens
    with clock.shifted(timedelta(seconds=601)):
        await with_token(world, tokens).get("//oauth/userinfo", expect=401)


async def test_a_person_sees_the_programs_session_and_ends_it_with_the_consent(
    world: World, admin: Client, ann: Client, bob: Client
) -> None:
    program = await registered(admin)
    tokens = await let_in(world, program)
    listed = [each for each in (await ann.get("/sessions"))["items"] if each["client"]]
    assert [(each["client"], each["client_name"]) for each in listed] == [(program["id"], "Diary")]
    consent = (await ann.get("/consents"))["items"][0]
    assert (consent["client_name"], consent["scopes"]) == ("Diary", ["email", "offline_access", "openid"])
    await bob.delete(f"/consents/{consent['id']}", expect=404)
    await ann.delete(f"/consents/{consent['id']}")
    await with_token(world, tokens).get("//oauth/userinfo", expect=401)
    await refreshed(world, program, tokens["refresh_token"], 400)
    browser = await browser_of(world)
    assert (await browser.authorize(request_of(program))).status_code == 200  # asked again


async def test_a11_who_is_disabled_is_disabled_for_every_program(world: World, admin: Client) -> None:
    program = await registered(admin)
    tokens = await let_in(world, program)
    await admin.patch("/users/ann", json={"disabled": True})
    await with_token(world, tokens).get("//oauth/userinfo", expect=401)
    await refreshed(world, program, tokens["refresh_token"], 400)


async def test_a_token_can_be_given_back_by_its_program_and_nobody_else(world: World, admin: Client) -> None:
    program, other = await registered(admin), await registered(admin, name="Other")
    tokens = await let_in(world, program)
    for token in (tokens["refresh_token"], tokens["access_token"], "nonsense"):
        await ask(world, "/oauth/revoke", other, token=token)
    await with_token(world, tokens).get("//oauth/userinfo")
    await ask(world, "/oauth/revoke", program, token=tokens["refresh_token"])
    await with_token(world, tokens).get("//oauth/userinfo", expect=401)
    again = await let_in(world, program)
    await ask(world, "/oauth/revoke", program, token=again["access_token"])
    await refreshed(world, program, again["refresh_token"], 400)


async def test_only_the_program_itself_or_who_may_look_at_all_learns_whether_a_token_is_good(
    world: World, admin: Client
) -> None:
    program, other = await registered(admin), await registered(admin, name="Other")
    public = await registered(admin, kind="public")
    looking = await registered(admin, service=True, scopes=["tokens:introspect"])
    tokens = await let_in(world, program)
    mine = await ask(world, "/oauth/introspect", program, token=tokens["access_token"])
    assert (mine["active"], mine["sub"], mine["client_id"]) == (True, "ann", program["id"])
    assert mine["scope"] == "email offline_access openid"
    assert (await ask(world, "/oauth/introspect", looking, token=tokens["refresh_token"]))["active"]
    assert await ask(world, "/oauth/introspect", other, token=tokens["access_token"]) == {"active": False}
    await ask(world, "/oauth/introspect", public, 400, token=tokens["access_token"])
    await ask(world, "/oauth/revoke", program, token=tokens["access_token"])
    for token in (tokens["access_token"], tokens["refresh_token"], "nonsense"):
        assert await ask(world, "/oauth/introspect", program, token=token) == {"active": False}


async def test_b11_a_service_comes_for_itself_for_a_minute_with_what_it_was_given(world: World, admin: Client) -> None:
    service = await registered(admin, service=True, redirect_uris=[], scopes=["questions:ask", "accounts:read"])
    own = await ask(world, "/oauth/token", service, grant_type="client_credentials", scope="questions:ask")
    assert (own["expires_in"], own["scope"]) == (60, "questions:ask")
    assert "refresh_token" not in own
    client = with_token(world, own)
    await client.get("/sessions", expect=403)
    await client.get("/users", expect=403)
    assert (await client.post("/questions/accounts.people", json={"ids": ["ann"]}))[0]["email"] == "ann@msingi.test"
    with clock.shifted(timedelta(seconds=61)):
        await client.post("/questions/accounts.people", json={"ids": ["ann"]}, expect=401)


async def test_what_products_ask_each_other_is_for_services_only(world: World, admin: Client, ann: Client) -> None:
    service = await registered(admin, service=True, scopes=["accounts:read", "questions:ask"])
    reading = await ask(world, "/oauth/token", service, grant_type="client_credentials", scope="accounts:read")
    for client in (ann, admin, with_token(world, reading)):
        await client.post("/questions/accounts.people", json={"ids": ["ann"]}, expect=403)
    own = with_token(world, await ask(world, "/oauth/token", service, grant_type="client_credentials"))
    await own.post("/questions/accounts.nothing", json={}, expect=404)
    await own.post("/questions/accounts.people", json={"ids": "ann"}, expect=422)
    await own.post("/questions/accounts.people", content=b"{", headers={"content-type": "application/json"}, expect=400)


# ---- devices


async def begun(world: World, admin: Client) -> tuple[Row, Row]:
    program = await registered(admin, kind="public", device=True, redirect_uris=[])
    return program, await ask(world, "/oauth/device", program, scope="openid offline_access")


async def collected(world: World, program: Row, device: Row, expect: int = 200) -> Row:
    return await ask(world, "/oauth/token", program, expect, grant_type=DEVICE, device_code=device["device_code"])


async def test_a_device_gets_tokens_once_its_person_typed_the_code(world: World, admin: Client) -> None:
    program, device = await begun(world, admin)
    assert re.fullmatch(r"[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}", device["user_code"])
    assert (device["expires_in"], device["interval"]) == (600, 5)
    assert (await collected(world, program, device, 400))["error"] == "authorization_pending"
    browser = await browser_of(world)
    typed = device["user_code"].lower().replace("-", " ")
    asked = await browser.press(await browser.http.get("/device"), user_code=typed)
    assert "Diary" in asked.text
    assert (await browser.press(asked, answer="allow")).status_code == 200
    with clock.shifted(timedelta(seconds=6)):
        tokens = await collected(world, program, device)
        assert (await with_token(world, tokens).get("//oauth/userinfo"))["sub"] == "ann"
        assert {"id_token", "refresh_token"} <= set(tokens)
    with clock.shifted(timedelta(seconds=12)):
        assert (await collected(world, program, device, 400))["error"] == "invalid_grant"


async def test_a_device_that_asks_too_often_is_told_to_slow_down(world: World, admin: Client) -> None:
    program, device = await begun(world, admin)
    assert (await collected(world, program, device, 400))["error"] == "authorization_pending"
    assert (await collected(world, program, device, 400))["error"] == "slow_down"
    with clock.shifted(timedelta(seconds=6)):
        assert (await collected(world, program, device, 400))["error"] == "slow_down"  # ten seconds by now
    with clock.shifted(timedelta(seconds=30)):
        assert (await collected(world, program, device, 400))["error"] == "authorization_pending"


async def test_a_device_is_told_when_its_person_says_no_or_nothing(world: World, admin: Client) -> None:
    program, device = await begun(world, admin)
    browser = await browser_of(world)
    asked = await browser.press(await browser.http.get("/device"), user_code=device["user_code"])
    await browser.press(asked, answer="deny")
    assert (await collected(world, program, device, 400))["error"] == "access_denied"
    late = await ask(world, "/oauth/device", program, scope="openid")
    with clock.shifted(timedelta(seconds=601)):
        assert (await collected(world, program, late, 400))["error"] == "expired_token"
        wrong = await browser.press(await browser.http.get("/device"), user_code=late["user_code"])
        assert wrong.status_code == 422


async def test_a_devices_code_cannot_be_tried_out(world: World, admin: Client) -> None:
    await begun(world, admin)
    browser = await browser_of(world)
    page = await browser.http.get("/device")
    replies = [await browser.press(page, user_code="BBBB-BBBB") for _ in range(21)]
    assert [reply.status_code for reply in replies] == [422] * 20 + [429]


# ---- signing out, and where everything is


async def test_a_link_alone_signs_nobody_out_and_leads_nowhere_that_is_not_registered(
    world: World, admin: Client
) -> None:
    program = await registered(admin, post_logout_redirect_uris=["https://diary.example/bye"], first_party=True)
    browser = await browser_of(world)
    tokens = await redeemed(world, program, await browser.code(request_of(program)))
    query = {
        "id_token_hint": tokens["id_token"],
        "post_logout_redirect_uri": "https://diary.example/bye",
        "state": "s-2",
    }
    page = await browser.http.get("/oauth/logout", params=query)
    assert (await browser.http.get("/v1/accounts/me")).status_code == 200
    assert "form-action 'self' https://diary.example;" in page.headers["content-security-policy"]
    elsewhere = query | {"post_logout_redirect_uri": "https://evil.example"}
    gone = await browser.press(await browser.http.get("/oauth/logout", params=elsewhere))
    assert gone.headers["location"] == "/"
    assert (await browser.http.get("/v1/accounts/me")).status_code == 401
    await browser.sign_in()
    forged = query | {"id_token_hint": tokens["id_token"][:-4] + "AAAA"}
    assert (await browser.press(await browser.http.get("/oauth/logout", params=forged))).headers["location"] == "/"
    await browser.sign_in()
    gone = await browser.press(await browser.http.get("/oauth/logout", params=query))
    assert gone.headers["location"] == "https://diary.example/bye?state=s-2"


async def test_discovery_names_the_same_in_both_places_and_every_address_answers(world: World) -> None:
    async with world.client(None).http as http:
        said = (await http.get("/.well-known/openid-configuration")).json()
        assert said == (await http.get("/.well-known/oauth-authorization-server")).json()
        assert said["issuer"] == "http://msingi.test"
        assert said["code_challenge_methods_supported"] == ["S256"]
        for name, address in said.items():
            if name.endswith("_endpoint") or name == "jwks_uri":
                assert (await http.get(address)).status_code != 404, name


async def test_disabled_people_get_no_code(world: World, admin: Client) -> None:
    program = await registered(admin)
    browser = await browser_of(world)
    await admin.patch("/users/ann", json={"disabled": True})
    assert (await browser.authorize(request_of(program))).headers["location"].startswith("/sign-in")
    assert (await accounts.get("ann")).disabled
