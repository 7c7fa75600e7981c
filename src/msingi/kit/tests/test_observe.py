"""What a process tells of itself: lines that nobody can forge, without secrets; metrics of all processes together."""

import io
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import structlog

from msingi.kit import observe
from msingi.kit.config import Settings
from msingi.kit.testing import NEARBY
from msingi.kit.tests.served import serving, wait_until


@pytest.fixture
def output() -> Iterator[io.BytesIO]:
    """Logs of this process, caught. What was set up before is set up again afterwards."""
    before, handlers, level = structlog.get_config(), logging.getLogger().handlers[:], logging.getLogger().level
    caught = io.BytesIO()
    observe.configure(Settings(env="test"), caught)
    structlog.configure(cache_logger_on_first_use=False)
    yield caught
    structlog.configure(**before)
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)
    observe._access = None


def lines(output: io.BytesIO) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in output.getvalue().splitlines()]


def test_a_fact_is_one_json_object_on_one_line(output: io.BytesIO) -> None:
    token = observe.request_id.set("abc")
    structlog.get_logger("tests").info("thing_happened", text='two\r\nlines {"event": "forged"}', count=3)
    observe.request_id.reset(token)
    (line,) = lines(output)
    assert line.pop("timestamp").endswith("+00:00")
    assert line == {
        "event": "thing_happened",
        "level": "info",
        "logger": "tests",
        "request_id": "abc",
        "text": 'two\r\nlines {"event": "forged"}',
        "count": 3,
    }
    assert output.getvalue().count(b"\n") == 1


def test_the_standard_librarys_loggers_look_the_same(output: io.BytesIO) -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("some.driver").exception("it %s\nbadly", "went")
    (line,) = lines(output)
    assert (line["event"], line["level"], line["logger"]) == ("it went\nbadly", "error", "some.driver")
    assert line["exception"].endswith("ValueError: broken")


def test_what_is_below_the_level_is_not_written(output: io.BytesIO) -> None:
    structlog.get_logger("tests").debug("too_fine")
    logging.getLogger("some.driver").debug("too fine")
    assert output.getvalue() == b""


@pytest.mark.parametrize(
    "said",
    [
        {"password": "hunter2"},
        {"new_password": "hunter2"},
        {"headers": {"Authorization": "hunter2", "Cookie": "hunter2"}},
        {"rows": [{"access_token": "hunter2"}]},
        {"client_secret": "hunter2", "api_key": "hunter2"},
        {"error": "401 for Authorization: Bearer hunter2hunter2"},
        {"url": "mongodb://app:hunter2@db.example/"},
    ],
    ids=lambda said: next(iter(said)),
)
def test_d4_a_secret_is_masked_wherever_it_stands(output: io.BytesIO, said: dict[str, Any]) -> None:
    structlog.get_logger("tests").info("thing_happened", **said)
    assert b"hunter2" not in output.getvalue()
    assert b"***" in output.getvalue()


def test_what_is_no_secret_is_left_alone(output: io.BytesIO) -> None:
    structlog.get_logger("tests").info("thing_happened", actor="ann", url="https://db.example/a@b", count=3)
    (line,) = lines(output)
    assert (line["actor"], line["url"], line["count"]) == ("ann", "https://db.example/a@b", 3)


def test_metrics_are_counted_observed_and_set() -> None:
    observe.count("tests_run", product="kit")
    observe.count("tests_run", by=2, product="kit")
    observe.observe("test_seconds", 0.3)
    observe.gauge("test_heat", 7, room="a")
    text = observe.metrics().decode()
    assert 'msingi_tests_run_total{product="kit"} 3.0' in text
    assert 'msingi_test_seconds_bucket{le="0.25"} 0.0' in text
    assert 'msingi_test_seconds_bucket{le="0.5"} 1.0' in text
    assert 'msingi_test_heat{room="a"} 7.0' in text


def test_a_metric_does_not_grow_without_end() -> None:
    for number in range(1200):
        observe.count("tests_of_growth", name=str(number))
    series = [
        line for line in observe.metrics().decode().splitlines() if line.startswith("msingi_tests_of_growth_total")
    ]
    assert len(series) == 1001
    assert 'msingi_tests_of_growth_total{name="other"} 200.0' in series


def test_metrics_are_those_of_all_processes_and_by_route_not_by_path(tmp_path: Path) -> None:
    with serving({"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}, workers=2) as server:
        count, ends, workers = 0, time.monotonic() + 60, {str(each) for each in server.workers()}
        # A connection each, until both processes got some: who of them takes one is the system's choice.
        while count < 40 or workers != {file.stem.rpartition("_")[2] for file in tmp_path.glob("histogram_*.db")}:
            assert time.monotonic() < ends, "one process gets nothing"
            assert httpx.get(f"{server.url}/small?{count}", **NEARBY).status_code == 200
            assert httpx.get(f"{server.url}/nothing-{count}", **NEARBY).status_code == 404
            count += 1
        with server.client() as client:
            client.request("BREW", "/small")
            text = client.get("/metrics").text
    assert f'msingi_http_request_seconds_count{{method="GET",route="/small",status="200"}} {count}.0' in text
    assert f'msingi_http_request_seconds_count{{method="GET",route="unmatched",status="404"}} {count}.0' in text
    assert "nothing-7" not in text
    assert "BREW" not in text


GAUGE = "from msingi.kit import observe; observe.gauge('alive', 5); observe.count('born')"


def test_the_dead_are_counted_but_no_longer_stand_anywhere(tmp_path: Path) -> None:
    for _ in range(2):
        environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
        subprocess.run([sys.executable, "-c", GAUGE], env=environ, check=True)
    text = observe.metrics(str(tmp_path)).decode()
    assert "msingi_born_total 2.0" in text
    assert "msingi_alive" not in text


def test_in_production_metrics_are_for_the_machine_itself() -> None:
    production = {
        "MSINGI_ENV": "production",
        "MSINGI_SECRET": "0123456789abcdef0123456789abcdef",
        "MSINGI_PUBLIC_URL": "https://house.example",
        "MSINGI_ALLOWED_HOSTS": "127.0.0.1",
    }
    with serving(production) as server, server.client() as client:
        assert client.get("/metrics").status_code == 200
        # A proxy on the same machine, trusted or not, speaks for somebody else.
        assert client.get("/metrics", headers={"X-Forwarded-For": "203.0.113.9"}).status_code == 401
        assert client.get("/health", headers={"Host": "localhost"}).status_code == 400


def test_ready_tells_what_is_missing() -> None:
    nowhere = {"MONGO_URL": "mongodb://127.0.0.1:1/?replicaSet=rs0", "REDIS_URL": "redis://127.0.0.1:1/0"}
    with serving(nowhere) as server, server.client() as client:
        assert client.get("/health").json() == {"status": "ok"}
        reply = client.get("/ready")
        assert reply.status_code == 503
        checks = {"mongo": "down", "redis": "down", "revocations": "late"}
        assert reply.json() == {"status": "unready", "checks": checks}


@pytest.mark.skipif("MSINGI_TEST_MONGO" not in os.environ, reason="needs the servers of a run")
def test_c5_without_redis_it_is_degraded_but_ready() -> None:
    mongo, redis = os.environ["MSINGI_TEST_MONGO"], os.environ["MSINGI_TEST_REDIS"]
    with serving({"MONGO_URL": mongo, "REDIS_URL": redis}) as server, server.client() as client:
        good = {"mongo": "ok", "redis": "ok", "revocations": "ok"}
        assert client.get("/ready").json() == {"status": "ready", "checks": good}
    with serving({"MONGO_URL": mongo, "REDIS_URL": "redis://127.0.0.1:1/0"}) as server, server.client() as client:
        reply = client.get("/ready")
        assert reply.status_code == 200
        assert reply.json() == {"status": "degraded", "checks": {**good, "redis": "down"}}


class Collector(BaseHTTPRequestHandler):
    """Takes what an OTLP exporter sends."""

    got: list[bytes] = []

    def do_POST(self) -> None:
        self.got.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


def test_a_request_is_a_span_of_its_callers_trace() -> None:
    collector = HTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{collector.server_port}"
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    try:
        with serving({"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "100"}) as server:
            httpx.get(server.url + "/small", headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
            wait_until(lambda: [sent for sent in Collector.got if bytes.fromhex(trace) in sent])
    finally:
        collector.shutdown()
        collector.server_close()
    sent = next(sent for sent in Collector.got if bytes.fromhex(trace) in sent)
    assert b"GET /small" in sent


def test_without_a_collector_a_span_is_nothing() -> None:
    assert not observe.tracing()
    assert observe.span("work") is observe.span("other work")
    with observe.span("work", count=1):
        pass
