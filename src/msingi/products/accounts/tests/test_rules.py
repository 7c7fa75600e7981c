"""Decisions bare: passwords, addresses, lives of sessions, and the shape of their secrets."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from msingi.kit import state
from msingi.kit.errors import InvalidFields
from msingi.kit.ids import new_id
from msingi.kit.search import words_of
from msingi.kit.testing import test_settings
from msingi.products.accounts import rules, session_secrets
from msingi.products.accounts.models.people import Account
from msingi.products.accounts.models.sessions import Session
from msingi.products.accounts.passwords import check_password

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("123456789012345", "too_common"),
        ("passwordpassword", "too_common"),
        ("aaaaaaaaaaaaaaaaaa", "too_common"),
        ("qwertyuiopasdfghjkl", "too_common"),
        ("QWERTYUIOPASDFGHJKL", "too_common"),
        ("1qaz2wsx3edc4rfv", "too_common"),
        ("098765432109876543", "too_common"),
        ("abcabcabcabcabcabc", "too_common"),
        ("P4ssw0rdP4ssw0rd!", "too_common"),
        ("password12345678", "too_common"),
        ("welcome1234567890", "too_common"),
        ("ｐａｓｓｗｏｒｄｐａｓｓｗｏｒｄ", "too_common"),
        ("correcthorsebatterystaple", "too_common"),
        ("               ", "too_common"),
        ("!!!!!!!!!!!!!!!!", "too_common"),
        ("🐘" * 15, "too_common"),
        ("\ud800" * 15, "too_common"),
        ("msingimsingimsingi", "like_you"),
        ("msingi-password-1", "like_you"),
        ("jane.doe@example.org", "like_you"),
        ("Jane.Doe.1234567", "like_you"),
        ("janedoejanedoe1", "like_you"),
    ],
)
def test_a2_a_password_that_is_tried_first_is_refused(password: str, reason: str) -> None:
    with pytest.raises(rules.people.WeakPassword) as refused:
        check_password(password, email="jane.doe@example.org", name="Jane Doe")
    assert refused.value.details["reason"] == reason
    assert refused.value.details["errors"][0]["pointer"] == "/password"


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery",
        "correct horse battery msingi",
        "nyati mweusi anakunywa",
        "xkq7 mzvw 94ht plrd",
        "Pâtés, œufs & crème brûlée",
        "🦏🐘🦒🦓🦌🐆🐃🐪🐗🦍🦧🐒🦅🦉🐊",
        "janes cat sleeps on tuesdays",
        "密码不应该太短否则会被猜到的",
    ],
)
def test_a1_other_passwords_are_taken_whatever_they_are_made_of(password: str) -> None:
    check_password(password, email="jane.doe@example.org", name="Jane Doe")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("ann@example.org", "ann@example.org"),
        ("  Ann.Smith+List@Example.ORG ", "ann.smith+list@example.org"),
        ("ann@msingi.test", "ann@msingi.test"),
        ("ann@bücher.example.org", "ann@bücher.example.org"),
    ],
)
def test_an_address_is_kept_in_one_spelling(given: str, kept: str) -> None:
    assert rules.people.email_of(given) == kept


@pytest.mark.parametrize(
    "given", ["", "ann", "ann@", "@b.org", "a b@c.org", "a@b", f"{'a' * 250}@example.org", "a@b..org"]
)
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(InvalidFields) as refused:
        rules.people.email_of(given)
    assert refused.value.details["errors"][0]["pointer"] == "/email"


def session(**changes: Any) -> Session:
    idle_at, ends_at = rules.sessions.ends_of(["user"], NOON, NOON)
    right: dict[str, Any] = {
        "account": "ann",
        "kind": "token",
        "epoch": 0,
        "current": b"now",
        "created_at": NOON,
        "last_used_at": NOON,
        "proven_at": NOON,
    }
    return Session(**(right | {"idle_at": idle_at, "ends_at": ends_at} | changes))


def account(**changes: Any) -> Account:
    right: dict[str, Any] = {"id": "ann", "email": "ann@example.org", "name": "Ann", "password": "", "words": []}
    right["email_key"] = "its mark"  # else it is made, with a key that only a running house has
    return Account(**(right | changes))


def test_a12_a_session_ends_14_days_after_its_last_use_and_30_days_after_its_beginning() -> None:
    assert rules.sessions.is_alive(session(), account(), NOON + timedelta(days=14, seconds=-1))
    assert not rules.sessions.is_alive(session(), account(), NOON + timedelta(days=14))
    used = NOON + timedelta(days=20)
    idle_at, ends_at = rules.sessions.ends_of(["user"], NOON, used)
    late = session(last_used_at=used, idle_at=idle_at, ends_at=ends_at)
    assert rules.sessions.is_alive(late, account(), NOON + timedelta(days=30, seconds=-1))
    assert not rules.sessions.is_alive(late, account(), NOON + timedelta(days=30))


def test_a12_an_admins_session_is_shorter_also_if_it_began_as_a_members() -> None:
    admin = account(roles=["user", "admin"])
    assert rules.sessions.is_alive(session(), admin, NOON + timedelta(minutes=59))
    assert not rules.sessions.is_alive(session(), admin, NOON + timedelta(hours=1))
    used = session(last_used_at=NOON + timedelta(hours=11, minutes=30))
    assert rules.sessions.is_alive(used, admin, NOON + timedelta(hours=11, minutes=59))
    assert not rules.sessions.is_alive(used, admin, NOON + timedelta(hours=12))


def test_a_session_is_dead_when_it_was_ended_or_its_account_moved_on() -> None:
    assert not rules.sessions.is_alive(session(ended_at=NOON), account(), NOON)
    assert not rules.sessions.is_alive(session(), account(epoch=1), NOON)
    assert not rules.sessions.is_alive(session(), account(disabled=True), NOON)
    assert not rules.sessions.is_alive(session(), account(id="bob"), NOON)


def test_a10_only_the_immediate_parent_comes_again_and_only_for_ten_seconds() -> None:
    rotated = session(previous=b"parent", previous_at=NOON)
    assert rules.sessions.is_lost_answer(rotated, b"parent", NOON + timedelta(seconds=10))
    assert not rules.sessions.is_lost_answer(rotated, b"parent", NOON + timedelta(seconds=10, milliseconds=1))
    assert not rules.sessions.is_lost_answer(rotated, b"grandparent", NOON)
    assert not rules.sessions.is_lost_answer(session(), b"parent", NOON)


async def test_a_refresh_token_shows_by_itself_that_it_is_ours() -> None:
    async with state.running(test_settings()):
        id = new_id()
        token = session_secrets.new_refresh_token(id, 7)
        assert token.text.startswith("rt1_")
        read = session_secrets.read_refresh_token(token.text)
        assert read == token
        assert (token.session, token.generation) == (id, 7)
        for place in range(len(token.text)):
            changed = token.text[:place] + ("A" if token.text[place] != "A" else "B") + token.text[place + 1 :]
            assert session_secrets.read_refresh_token(changed) is None, place
        for other in ("", "rt1_", token.text + "A", token.text[:-1], token.text + "=", "é", "\ud800", "x" * 5000):
            assert session_secrets.read_refresh_token(other) is None, other
    async with state.running(test_settings(MSINGI_DATABASE="another-house")):
        assert session_secrets.read_refresh_token(token.text) is None


def test_a_cookie_says_where_to_look_and_nothing_else_is_one() -> None:
    id = new_id()
    value = session_secrets.new_cookie(id)
    assert session_secrets.session_in_cookie(value) == id
    assert session_secrets.new_cookie(id) != value
    for other in ("", value + "A", value[:-4], value + "=", "é" * 64, "a" * 65):
        assert session_secrets.session_in_cookie(other) is None


def test_a_search_finds_words() -> None:
    assert words_of("Ann O'Hara", "ann@Msingi.test") == ["ann", "ohara", "msingi", "test"]
