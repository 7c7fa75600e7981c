"""What a process tells of itself: log lines as JSON, metrics for Prometheus, traces for OpenTelemetry if wanted."""

import asyncio
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import structlog
from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from msingi.kit.clock import stamp
from msingi.kit.config import Settings

Event = structlog.typing.EventDict
Labels = Mapping[str, str]

# ---- logs

request_id: ContextVar[str] = ContextVar("request_id", default="")
asking: ContextVar[Any] = ContextVar("asking", default=None)  # the ASGI scope of the request under way
MASK = "***"
_SECRET_NAME = re.compile(r"passw|passphrase|secret|token|authorization|cookie|api_?key|credential|otp_|private", re.I)
_SECRET_TEXT = re.compile(r"(\b(?:bearer|basic)\s+)[\w.~+/=-]{8,}|(\w://[^/\s:@]*:)[^/\s@]+(?=@)", re.I)
_encode = msgspec.json.Encoder(enc_hook=str).encode


class Lines(structlog.BytesLogger):
    """Writes finished lines, and knows under which name it was asked for."""

    def __init__(self, file: BinaryIO, name: str = "") -> None:
        super().__init__(file)
        self.name = name


class Gathered:
    """Writes lines together, at most a tenth of a second late: a write for each would cost each request a switch of
    threads, which was measured to be as dear as all else that the edge does."""

    LATE = 0.1
    MOST = 200

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.lines: list[bytes] = []

    def add(self, line: bytes) -> None:
        """Keep a line until it is time. Needs a running loop."""
        if not self.lines:
            asyncio.get_running_loop().call_later(self.LATE, self.flush)
        self.lines.append(line)
        if len(self.lines) >= self.MOST:
            self.flush()

    def flush(self) -> None:
        """Write what is there."""
        lines, self.lines = self.lines, []
        if lines:
            self.file.write(b"\n".join(lines) + b"\n")
            self.file.flush()


_access: Gathered | None = None


def configure(settings: Settings, output: BinaryIO | None = None) -> None:
    """Send all logs of this process to stdout (or `output`), a JSON object a line, from `settings.log_level` up.

    Both structlog's and the standard library's loggers, so the server's and the drivers' lines look like ours. With
    `settings.otlp_endpoint` set, it also begins to trace.
    """
    global _access
    file = output or sys.stdout.buffer
    level = getattr(logging, settings.log_level.upper())
    structlog.configure(
        processors=[*SHARED, _render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *names: Lines(file, *names[:1]),
        cache_logger_on_first_use=True,
    )
    _take_over_standard_logging(file, level)
    _access = Gathered(file) if level <= logging.INFO else None
    if settings.otlp_endpoint and _tracer is None:
        _begin_tracing(settings)


def close() -> None:
    """Write and send what is still held back: at the end of a process."""
    if _access is not None:
        _access.flush()
    if _tracer is not None:
        _spans[-1].force_flush(2000)


def _take_over_standard_logging(file: BinaryIO, level: int) -> None:
    handler = LineHandler(file)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in ("_granian", "granian.access"):  # the server brings handlers of its own
        theirs = logging.getLogger(name)
        theirs.handlers.clear()
        theirs.propagate = True
    for name in ("httpx", "httpcore", "pymongo"):  # each request and each heartbeat is too much
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


class LineHandler(logging.Handler):
    """Gives the standard library's records the form of all other lines."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self.file = file

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            event: Any = {"event": record.getMessage(), "exc_info": record.exc_info}
            lines = Lines(self.file, record.name)
            for process in (*SHARED, _render):
                event = process(lines, record.levelname.lower(), event)
            lines.msg(event)
        except Exception:  # noqa: BLE001  (a line that cannot be written must not end what it tells of)
            self.handleError(record)


def _basics(logger: Any, method: str, event: Event) -> Event:
    """Which logger, when, in which request: on each line."""
    event["timestamp"] = stamp()
    name = getattr(logger, "name", "")
    if name:
        event["logger"] = name
    current = request_id.get()
    if current:
        event.setdefault("request_id", current)
    return event


def _masked(logger: Any, method: str, event: Event) -> Event:
    """Without what nobody may read in a log, whatever the caller put in."""
    return {name: MASK if _is_secret(name) else _mask(value, 4) for name, value in event.items()}


def _mask(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return _SECRET_TEXT.sub(rf"\1\2{MASK}", value)
    if isinstance(value, Mapping) and depth:
        return {key: MASK if _is_secret(str(key)) else _mask(each, depth - 1) for key, each in value.items()}
    if isinstance(value, (list, tuple, set)) and depth:
        return [_mask(each, depth - 1) for each in value]
    return value


@lru_cache(maxsize=1024)
def _is_secret(name: str) -> bool:
    return _SECRET_NAME.search(name) is not None


def _render(logger: Any, method: str, event: Event) -> bytes:
    # JSON escapes line breaks, so nothing that a caller sends can begin a line of its own.
    return _encode(event)


SHARED: list[Any] = [_basics, structlog.processors.add_log_level, structlog.processors.format_exc_info, _masked]

# ---- metrics

PREFIX = "msingi_"
MOST_SERIES = 1000  # of one metric; what comes after them is counted together as "other"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series beside each, which nobody reads
_metrics: dict[str, Any] = {}
_series: dict[tuple[Any, ...], Any] = {}
_requests: dict[tuple[str, str, int], Any] = {}


def count(name: str, /, by: float = 1, **labels: str) -> None:
    """Count something that happens: `count("jobs_done", job="remind")` is `msingi_jobs_done_total{job="remind"}`.

    Labels are few and known beforehand (a route's template, a job's name), never an id or what somebody typed.
    """
    _one(Counter, name, labels).inc(by)


def observe(name: str, value: float, /, **labels: str) -> None:
    """Take a value into a histogram, in seconds unless the name says otherwise."""
    _one(Histogram, name, labels).observe(value)


def gauge(name: str, value: float, /, **labels: str) -> None:
    """Say how high something stands. Each living process says its own; `/metrics` gives their sum."""
    _one(Gauge, name, labels).set(value)


def _one(kind: Any, name: str, labels: Labels) -> Any:
    key = (name, *labels.items())
    found = _series.get(key)
    if found is None:
        found = _series[key] = _new_series(kind, name, labels)
    return found


def _new_series(kind: Any, name: str, labels: Labels) -> Any:
    metric = _metrics.get(name)
    if metric is None:
        more: dict[str, Any] = {"buckets": SECONDS} if kind is Histogram else {}
        if kind is Gauge:
            more["multiprocess_mode"] = "livesum"
        metric = _metrics[name] = kind(PREFIX + name, name.replace("_", " "), sorted(labels), **more)
    if not labels:
        return metric
    if sum(1 for each in _series if each[0] == name) >= MOST_SERIES:
        return metric.labels(**dict.fromkeys(labels, "other"))
    return metric.labels(**labels)


def metrics(folder: str = "") -> bytes:
    """All metrics in Prometheus' text format: of every process that shares `folder`, or else of this one."""
    if not folder:
        return generate_latest(REGISTRY)
    _forget_dead(folder)
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=folder)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def _forget_dead(folder: str) -> None:
    """What a dead process said of how things stand is no longer true; what it counted remains."""
    for file in Path(folder).glob("gauge_live*_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        if not _lives(pid):
            mark_process_dead(pid, folder)  # type: ignore[no-untyped-call]


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def request_done(
    method: str, path: str, route: str, status: int, seconds: float, size: int, id: str, actor_id: str | None
) -> None:
    """Count and log one finished request: `path` goes to the log, without the query, and `route` to the metrics."""
    series = _requests.get((method, route, status))
    if series is None:
        labels = {"method": method if method in METHODS else "other", "route": route, "status": str(status)}
        series = _one(Histogram, "http_request_seconds", labels)
        if method in METHODS:
            _requests[method, route, status] = series
    series.observe(seconds)
    if _access is not None:
        line = {
            "event": "request",
            "level": "info",
            "logger": "access",
            "timestamp": stamp(),
            "method": method,
            "path": path if len(path) <= 1000 else path[:1000],
            "status": status,
            "ms": round(seconds * 1000, 2),
            "bytes": size,
            "request_id": id,
        }
        if actor_id:
            line["actor_id"] = actor_id
        _access.add(_encode(line))


# ---- traces

_tracer: Any = None
_spans: list[Any] = []  # what carries them away
_nothing = nullcontext()


def tracing() -> bool:
    """Whether spans go anywhere."""
    return _tracer is not None


def span(name: str, /, **attributes: str | int | float | bool) -> AbstractContextManager[Any]:
    """A stretch of work worth seeing in a trace. Costs nothing when nobody traces."""
    if _tracer is None:
        return _nothing
    found: AbstractContextManager[Any] = _tracer.start_as_current_span(name, attributes=attributes)
    return found


@contextmanager
def request_span(method: str, headers: Mapping[bytes, bytes]) -> Iterator[Any]:
    """The span of a whole request, a child of the caller's if it sent a `traceparent` (W3C Trace Context)."""
    from opentelemetry.trace import SpanKind  # noqa: PLC0415  (only installed where traces are wanted)
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    carrier = {
        name: headers[name.encode()].decode("latin-1")
        for name in ("traceparent", "tracestate")
        if name.encode() in headers
    }
    parent = TraceContextTextMapPropagator().extract(carrier)
    with _tracer.start_as_current_span(method, context=parent, kind=SpanKind.SERVER) as current:
        current.set_attribute("http.request.method", method)
        yield current


def _begin_tracing(settings: Settings) -> None:
    global _tracer
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    # How many are sampled is said by OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG, as everywhere.
    provider = TracerProvider(resource=Resource.create({"service.name": "msingi"}))
    endpoint = settings.otlp_endpoint.rstrip("/") + "/v1/traces"
    _spans.append(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    provider.add_span_processor(_spans[-1])
    _tracer = provider.get_tracer("msingi")
