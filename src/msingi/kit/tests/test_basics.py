"""Clock, ids, problems and settings."""

from datetime import UTC, datetime, timedelta

import pytest

from msingi.kit import clock, config, ids
from msingi.kit.config import DEVELOPMENT_SECRET, BadSettings, Settings
from msingi.kit.errors import Busy, Conflict, Problem

GOOD = "1f0c8a4be27d93560a8f77c1d2e3b495"


class BoardIsFull(Conflict):
    """This board holds {limit} open tasks already; finish one first."""


def test_time_is_utc_in_whole_milliseconds() -> None:
    assert clock.now().tzinfo is UTC
    assert clock.now().microsecond % 1000 == 0


def test_the_time_in_the_logs_is_the_same_time() -> None:
    for by in (timedelta(0), timedelta(seconds=-7, milliseconds=250), timedelta(days=400)):
        with clock.shifted(by):
            before, said, after = clock.now(), clock.stamp(), clock.now()
            assert before <= datetime.fromisoformat(said) <= after
            assert said == datetime.fromisoformat(said).isoformat(timespec="milliseconds")


def test_a_shifted_clock_comes_back() -> None:
    with clock.shifted(timedelta(days=2)):
        assert clock.now() > datetime.now(UTC) + timedelta(days=1)
    assert clock.now() <= datetime.now(UTC)


def test_ids_ascend_even_within_a_millisecond_and_tell_their_time() -> None:
    made = [ids.new_id() for _ in range(5000)]
    assert made == sorted(set(made))
    assert all(len(id) == ids.LENGTH and id.isalnum() and id == id.lower() for id in made)
    assert abs(ids.time_of(made[0]) - datetime.now(UTC)) < timedelta(seconds=10)


def test_ids_still_ascend_after_the_clock_was_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = ids.new_id()
    monkeypatch.setattr(ids, "now", lambda: clock.now() - timedelta(hours=1))
    assert ids.new_id() > before


def test_ids_made_in_a_shifted_time_do_not_hold_for_the_present() -> None:
    with clock.shifted(timedelta(days=30)):
        later = ids.new_id()
    assert ids.new_id() < later


def test_the_first_id_at_a_time_is_below_all_made_then() -> None:
    at = clock.now()
    assert ids.first_id_at(at - timedelta(milliseconds=1)) < ids.new_id() < ids.first_id_at(at + timedelta(hours=1))


def test_a_problem_says_in_words_and_in_code_what_is_wrong() -> None:
    problem = BoardIsFull(limit=3)
    assert problem.body() == {
        "type": "/problems/board_is_full",
        "title": "Board is full",
        "status": 409,
        "detail": "This board holds 3 open tasks already; finish one first.",
        "code": "board_is_full",
        "limit": 3,
    }


def test_headers_of_a_problem_are_no_part_of_its_body() -> None:
    busy = Busy(retry_after=4)
    assert busy.headers == {"Retry-After": "4"}
    assert "headers" not in busy.body()
    assert Problem().body()["status"] == 500


def test_settings_are_read_and_typed() -> None:
    read = config.load(Settings, {"MSINGI_PORT": "8080", "MSINGI_ENV": "test", "PATH": "/bin"})
    assert (read.port, read.env, read.base_url) == (8080, "test", "http://localhost:8080")


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(BadSettings) as refused:
        config.load(Settings, {"MSINGI_PORT": "high", "MSINGI_ENV": "live", "MSINGI_SECRET": "short"})
    text = str(refused.value)
    assert "MSINGI_PORT: 'high'" in text
    assert "MSINGI_ENV: 'live'" in text
    assert "MSINGI_SECRET: the given value" in text
    assert "'short'" not in text


@pytest.mark.parametrize("secret", ["", DEVELOPMENT_SECRET, "a" * 40, "abababab" * 5])
def test_d4_production_refuses_default_and_weak_secrets(secret: str) -> None:
    with pytest.raises(BadSettings, match="MSINGI_SECRET"):
        config.load(
            Settings,
            {"MSINGI_ENV": "production", "MSINGI_SECRET": secret, "MSINGI_PUBLIC_URL": "https://shamba.example"},
        )


def test_production_starts_with_a_good_secret_and_an_address() -> None:
    environ = {"MSINGI_ENV": "production", "MSINGI_SECRET": GOOD, "MSINGI_PUBLIC_URL": "https://shamba.example/"}
    assert config.load(Settings, environ).base_url == "https://shamba.example"
    with pytest.raises(BadSettings, match="MSINGI_PUBLIC_URL is missing"):
        config.load(Settings, {"MSINGI_ENV": "production", "MSINGI_SECRET": GOOD})
