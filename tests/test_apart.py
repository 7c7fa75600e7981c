"""Accounts in one process, another product in a second one: nothing between them but HTTP."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from authlib.integrations.httpx_client import AsyncOAuth2Client
from authlib.oidc.core.util import create_half_hash
from joserfc import jwt
from joserfc.jwk import KeySet
from tests.serving import Served, own_databases, serving, wait_until

BACK = "http://127.0.0.1:9/back"  # nobody listens there: the test reads where the browser is sent
ALONE: dict[str, Any] = {"parts": ["web"], "MSINGI_PROCESSES": "1"}
VERIFIER = "a-verifier-of-at-least-forty-three-letters-for-pkce"
ISSUER = "https://accounts.example"
TELLING = ["questions:ask", "revocations:read"]


def registered(accounts: Served, **form: Any) -> dict[str, Any]:
    with accounts.sign_in("admin") as admin:
        reply = admin.post("/v1/accounts/clients", json=form)
        assert reply.status_code == 201, reply.text
        made: dict[str, Any] = reply.json()
        return made


@contextmanager
def browser(accounts: Served, who: str = "ann") -> Iterator[httpx.Client]:
    """Somebody with a session cookie."""
    form = {"email": f"{who}@msingi.test", "password": accounts.password, "session": "cookie"}
    with accounts.client() as client:
        client.post("/v1/accounts/sign-in", json=form, headers={"Origin": accounts.url}).raise_for_status()
        yield client


@contextmanager
def apart(folder: Path, *, feed: bool) -> Iterator[tuple[Served, Served]]:
    """Accounts, and tasks with databases and a secret of their own, which know each other by addresses only."""
    here, there = own_databases(40), own_databases(48)
    with serving(folder / "accounts", **there, **ALONE, products=["accounts"], MSINGI_ISSUER=ISSUER) as accounts:
        service = registered(accounts, name="Tasks", kind="confidential", service=True, scopes=TELLING)
        known = {
            "MSINGI_ISSUER": ISSUER,
            "MSINGI_JWKS_URL": f"{accounts.url}/.well-known/jwks.json",
            "MSINGI_PEERS": f"accounts={accounts.url}",
            "MSINGI_CLIENT_ID": service["id"],
            "MSINGI_CLIENT_SECRET": service["client_secret"],
        }
        if feed:
            known["MSINGI_REVOCATIONS_URL"] = f"{accounts.url}/v1/accounts/revocations"
        with serving(folder / "tasks", **here, **ALONE, products=["tasks"], **known) as tasks:
            yield accounts, tasks


def token_of(client: httpx.Client) -> str:
    return client.headers["authorization"].removeprefix("Bearer ")


def test_a9_a11_signed_in_at_one_process_used_at_another_and_refused_there_a_second_after_it_ended(
    tmp_path: Path,
) -> None:
    with (
        apart(tmp_path, feed=True) as (accounts, tasks),
        accounts.sign_in("ann") as ann,
        accounts.sign_in("bob") as bob,
        tasks.client(token_of(ann)) as client,
        tasks.client(token_of(bob)) as other,
    ):
        project = client.post("/v1/tasks/projects", json={"name": "Well"}).json()
        # What tasks wants to know of people it asks the accounts for, over HTTP.
        members = f"/v1/tasks/projects/{project['id']}/members"
        assert client.put(f"{members}/nobody", json={"role": "editor"}).status_code in (404, 422)
        assert client.put(f"{members}/bob", json={"role": "editor"}).status_code in (200, 201)
        assert {each["name"] for each in client.get(members).json()["items"]} == {"Ann", "Bob"}
        assert other.get(f"/v1/tasks/projects/{project['id']}").status_code == 200
        # What ends at the accounts ends here.
        with accounts.sign_in("admin") as admin:
            admin.patch("/v1/accounts/users/bob", json={"disabled": True}).raise_for_status()
        began = time.monotonic()
        wait_until(lambda: other.get("/v1/tasks/projects").status_code == 401, 5)
        assert time.monotonic() - began < 1.5
        assert client.get("/v1/tasks/projects").status_code == 200
        assert ann.post("/v1/accounts/sign-out").status_code == 204
        wait_until(lambda: client.get("/v1/tasks/projects").status_code == 401, 5)


def test_z4_while_nobody_tells_what_was_revoked_who_holds_power_is_refused_and_others_go_on(tmp_path: Path) -> None:
    with (
        apart(tmp_path, feed=True) as (accounts, tasks),
        accounts.sign_in("admin") as admin,
        accounts.sign_in() as ann,
        tasks.client(token_of(admin)) as powerful,
        tasks.client(token_of(ann)) as client,
    ):
        assert powerful.get("/jobs").status_code == 200
        assert client.put("/v1/tasks/projects/none/members/bob", json={"role": "editor"}).status_code == 404
        accounts.stop("web")
        wait_until(lambda: powerful.get("/jobs").status_code == 503, 15)
        project = client.post("/v1/tasks/projects", json={"name": "Well"})
        assert project.status_code == 201
        # Whom nobody can be asked about is taken at their word, as in a product by itself.
        members = f"/v1/tasks/projects/{project.json()['id']}/members"
        assert client.put(f"{members}/bob", json={"role": "editor"}).status_code in (200, 201)


def test_a11_where_the_kits_database_is_shared_no_feed_is_needed(tmp_path: Path) -> None:
    shared = own_databases(40)
    with serving(tmp_path / "accounts", **shared, **ALONE, products=["accounts"]) as accounts:
        keys = f"{accounts.url}/.well-known/jwks.json"
        secret = accounts.environ["MSINGI_SECRET"]
        # Its databases are those of accounts: they are not to be emptied.
        notes = serving(
            tmp_path / "notes",
            **shared,
            **ALONE,
            products=["notes"],
            MSINGI_JWKS_URL=keys,
            MSINGI_SECRET=secret,
            empty=False,
        )
        with notes as served, accounts.sign_in("ann") as ann, served.client(token_of(ann)) as client:
            assert client.get("/v1/notes").status_code == 200
            assert ann.post("/v1/accounts/sign-out").status_code == 204
            began = time.monotonic()
            wait_until(lambda: client.get("/v1/notes").status_code == 401, 5)
            assert time.monotonic() - began < 1.0


@asynccontextmanager
async def discovered(accounts: Served, program: dict[str, Any]) -> AsyncIterator[tuple[Any, dict[str, Any]]]:
    """An OAuth client that somebody else wrote, and what it found out for itself."""
    async with AsyncOAuth2Client(
        client_id=program["id"],
        client_secret=program["client_secret"],
        redirect_uri=BACK,
        scope="openid profile email offline_access accounts:read",
        code_challenge_method="S256",
        trust_env=False,
    ) as client:
        found = (
            await client.request("GET", f"{accounts.url}/.well-known/openid-configuration", withhold_token=True)
        ).json()
        client.metadata["token_endpoint"] = found["token_endpoint"]
        yield client, found


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
async def test_a_client_that_somebody_else_wrote_signs_people_in_refreshes_and_reads_who_they_are(
    tmp_path: Path,
) -> None:
    with serving(tmp_path, **own_databases(40), **ALONE, products=["accounts"]) as accounts:
        program = registered(
            accounts,
            name="Diary",
            kind="confidential",
            redirect_uris=[BACK],
            scopes=["openid", "profile", "email", "offline_access", "accounts:read"],
            first_party=True,
        )
        async with discovered(accounts, program) as (client, found):
            url, state = client.create_authorization_url(
                found["authorization_endpoint"], code_verifier=VERIFIER, nonce="n-1"
            )
            with browser(accounts) as person:
                back = person.get(url).headers["location"]
            said = dict(parse_qsl(urlsplit(back).query))
            assert (said["state"], said["iss"]) == (state, found["issuer"])
            tokens = await client.fetch_token(
                found["token_endpoint"], authorization_response=back, state=state, code_verifier=VERIFIER
            )
            keys = KeySet.import_key_set((await client.get(found["jwks_uri"])).json())
            claims = jwt.decode(
                tokens["id_token"], keys, algorithms=found["id_token_signing_alg_values_supported"]
            ).claims
            wanted = {
                name: {"essential": True, "value": value}
                for name, value in (("iss", found["issuer"]), ("aud", program["id"]), ("nonce", "n-1"), ("sub", "ann"))
            }
            jwt.JWTClaimsRegistry(**wanted, exp={"essential": True}, auth_time={"essential": True}).validate(claims)
            assert claims["at_hash"] == create_half_hash(tokens["access_token"], "EdDSA").decode()
            person_told = (await client.get(found["userinfo_endpoint"])).json()
            assert (person_told["sub"], person_told["name"], person_told["email"]) == ("ann", "Ann", "ann@msingi.test")
            newer = await client.refresh_token(found["token_endpoint"], tokens["refresh_token"])
            assert newer["access_token"] != tokens["access_token"]
            assert (await client.get(f"{accounts.url}/v1/accounts/me")).json()["id"] == "ann"
            assert (await client.introspect_token(found["introspection_endpoint"], newer["access_token"])).json()[
                "active"
            ]
            assert (await client.revoke_token(found["revocation_endpoint"], newer["refresh_token"])).status_code == 200
            assert (await client.get(found["userinfo_endpoint"])).status_code == 401
