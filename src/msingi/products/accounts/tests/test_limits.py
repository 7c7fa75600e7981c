"""Limits that an admin changes while the house runs."""

import pytest

from msingi.kit import audit, limits, state
from msingi.kit.testing import Client, World
from msingi.products.accounts.tests.people import signed_in


async def test_limits_are_told_as_they_are_by_default_and_now(admin: Client) -> None:
    items = (await admin.get("/limits"))["items"]
    shown = {each["name"]: each for each in items}
    assert [each["name"] for each in items][:2] == ["anonymous", "member"]
    assert shown["member"]["limit"] == shown["member"]["default"] == "100000/minute"
    assert shown["accounts_sign_in"]["route"] == "POST /v1/accounts/sign-in"
    assert shown["accounts_sign_in"]["limit"] == "300/minute"
    assert not any(each["changed"] for each in items)


async def test_r1_a_changed_limit_holds_at_once_and_is_told_on_every_reply(world: World, admin: Client) -> None:
    ann = await signed_in(world, "ann")
    await ann.get("/me")
    assert ann.last.headers["ratelimit-policy"] == '"member";q=100000;w=60'
    changed = await admin.put("/limits/member", limit="15/minute")
    assert (changed["default"], changed["limit"], changed["changed"]) == ("100000/minute", "15/minute", True)
    statuses = [(await ann.get("/me", expect=[200, 429]), ann.last.status_code)[1] for _ in range(18)]
    assert ann.last.headers["ratelimit-policy"] == '"member";q=15;w=60'
    assert statuses.count(200) in (14, 15)
    assert statuses[-1] == 429
    state.part(limits.Table).learn({})  # else the admin, a member too, waits a minute
    await admin.delete("/limits/member", expect=204)
    await ann.get("/me")
    assert ann.last.headers["ratelimit-policy"] == '"member";q=100000;w=60'


async def test_r1_a_routes_limit_is_changed_and_set_back(admin: Client, nobody: Client) -> None:
    wrong = {"email": "ann@msingi.test", "password": "not the one that it is"}
    await admin.put("/limits/accounts_sign_in", limit="2/minute")
    statuses = []
    for _ in range(4):
        await nobody.post("/sign-in", json=wrong, expect=[401, 429])
        statuses.append(nobody.last.status_code)
    assert statuses == [401, 401, 429, 429]
    assert '"route";q=2;w=60' in nobody.last.headers["ratelimit-policy"]
    await admin.delete("/limits/accounts_sign_in")
    await nobody.post("/sign-in", json=wrong, expect=401)
    assert '"route";q=300;w=60' in nobody.last.headers["ratelimit-policy"]


async def test_a_role_may_have_a_limit_of_its_own(world: World, admin: Client) -> None:
    await admin.put("/limits/role.admin", limit="777/minute")
    await admin.get("/me")
    assert admin.last.headers["ratelimit-policy"] == '"member";q=777;w=60'
    ann = await signed_in(world, "ann")
    await ann.get("/me")
    assert ann.last.headers["ratelimit-policy"] == '"member";q=100000;w=60'
    await admin.put("/limits/role.ghost", limit="777/minute", expect=404)
    assert "role.admin" in {each["name"] for each in (await admin.get("/limits"))["items"]}


@pytest.mark.parametrize("limit", ["", "30", "many/minute", "0/minute", "30/fortnight", "-1/minute", "1/minute"])
async def test_what_is_no_limit_or_locks_everybody_out_is_refused(admin: Client, limit: str) -> None:
    problem = await admin.put("/limits/member", limit=limit, expect=422)
    assert problem["errors"][0]["pointer"] == "/limit"
    assert not (await admin.get("/limits/member"))["changed"]


async def test_a_limit_is_changed_by_its_version(admin: Client) -> None:
    await admin.put("/limits/anonymous", limit="500/minute", headers={"if-match": '"0"'})
    problem = await admin.put("/limits/anonymous", limit="600/minute", headers={"if-match": '"0"'}, expect=409)
    assert problem["code"] == "stale"
    await admin.put("/limits/anonymous", limit="600/minute", headers={"if-match": '"1"'})


async def test_z4_a_limit_that_cannot_be_understood_changes_nothing(admin: Client) -> None:
    broken = {"_id": "member", "limit": "plenty", "version": 1}
    await limits.changed_limits.raw.insert_one(broken, bypass_document_validation=True)
    await limits.followed.read()
    await admin.get("/me")
    assert admin.last.headers["ratelimit-policy"] == '"member";q=100000;w=60'


async def test_l1_a_changed_limit_is_noted(admin: Client) -> None:
    await admin.put("/limits/anonymous", limit="500/minute")
    await admin.delete("/limits/anonymous")
    noted = await audit.entries.many({"about": "anonymous"}, sort=[("_id", 1)])
    assert [each.kind for each in noted] == ["accounts.limit_changed", "accounts.limit_reset"]
    assert noted[0].facts == {"before": "100000/minute", "limit": "500/minute"}
