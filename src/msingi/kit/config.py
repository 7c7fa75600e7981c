"""Settings: read once from the environment, typed, and refused together with a reason for each."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct, field

Secret = Annotated[str, Meta(min_length=32, extra={"secret": True})]
DEVELOPMENT_SECRET = "development-only-secret-never-use-it-elsewhere"  # noqa: S105  (refused in production)


class Settings(Struct, frozen=True, kw_only=True):
    """What every process of the house is told by its environment."""

    env: Literal["development", "test", "production"] = field(name="MSINGI_ENV", default="development")
    secret: Secret = field(name="MSINGI_SECRET", default=DEVELOPMENT_SECRET)
    # Those that MSINGI_SECRET was before, separated by commas: they open what was wrapped under them (kit.data_keys).
    old_secrets: Annotated[str, Meta(extra={"secret": True})] = field(name="MSINGI_SECRET_OLD", default="")
    host: str = field(name="MSINGI_HOST", default="127.0.0.1")
    port: Annotated[int, Meta(ge=0, le=65535)] = field(name="MSINGI_PORT", default=8000)
    public_url: str = field(name="MSINGI_PUBLIC_URL", default="")
    mongo_url: str = field(name="MONGO_URL", default="mongodb://127.0.0.1:27017/?replicaSet=rs0")
    redis_url: str = field(name="REDIS_URL", default="redis://127.0.0.1:6379/0")
    files: Annotated[str, Meta(min_length=1)] = field(name="MSINGI_FILES", default=".msingi/files")  # or s3://bucket
    cdn_url: Annotated[str, Meta(pattern=r"^(https?://[^\s;,'\"]+)?$")] = field(name="CDN_URL", default="")
    database: Annotated[str, Meta(pattern="^[a-z][a-z0-9-]{0,30}$")] = field(name="MSINGI_DATABASE", default="msingi")
    allowed_hosts: str = field(name="MSINGI_ALLOWED_HOSTS", default="")
    cors_origins: str = field(name="MSINGI_CORS_ORIGINS", default="")
    trusted_proxies: str = field(name="MSINGI_TRUSTED_PROXIES", default="")
    smtp_url: str = field(name="SMTP_URL", default="")
    mail_from: str = field(name="MAIL_FROM", default="Msingi <no-reply@msingi.test>")
    sms_url: str = field(name="SMS_URL", default="")
    sms_key: Annotated[str, Meta(extra={"secret": True})] = field(name="SMS_KEY", default="")
    sms_from: str = field(name="SMS_FROM", default="")
    sms_region: Annotated[str, Meta(pattern="^[A-Z]{2}$")] = field(name="SMS_REGION", default="KE")
    log_level: Literal["debug", "info", "warning", "error"] = field(name="MSINGI_LOG_LEVEL", default="info")
    otlp_endpoint: str = field(name="OTEL_EXPORTER_OTLP_ENDPOINT", default="")
    issuer: str = field(name="MSINGI_ISSUER", default="msingi")
    jwks_url: str = field(name="MSINGI_JWKS_URL", default="")  # where a product without accounts gets the keys
    # How a process asks the others of the house: where which product is, and what it proves itself with.
    peers: str = field(name="MSINGI_PEERS", default="")  # `<product>=https://…, …`
    token_url: str = field(name="MSINGI_TOKEN_URL", default="")  # default: /oauth/token where the keys are
    revocations_url: str = field(name="MSINGI_REVOCATIONS_URL", default="")
    client_id: str = field(name="MSINGI_CLIENT_ID", default="")
    client_secret: Annotated[str, Meta(extra={"secret": True})] = field(name="MSINGI_CLIENT_SECRET", default="")
    anonymous_limit: str = field(name="MSINGI_ANONYMOUS_LIMIT", default="300/minute")
    member_limit: str = field(name="MSINGI_MEMBER_LIMIT", default="3000/minute")
    role_limits: str = field(name="MSINGI_ROLE_LIMITS", default="")  # `admin=6000/minute, robot=60/minute`
    # Whether routes that ask for a permission also ask for a session that was opened with a second factor.
    admin_second_factor: Literal["off", "required"] = field(name="MSINGI_ADMIN_SECOND_FACTOR", default="off")
    max_body: Annotated[int, Meta(ge=1024)] = field(name="MSINGI_MAX_BODY", default=1_000_000)
    processes: Annotated[int, Meta(ge=1)] = field(name="MSINGI_PROCESSES", default=2)  # web processes, all machines
    # Bytes in which each process keeps copies of cached answers (kit.cache); 0: none.
    cache_memory: Annotated[int, Meta(ge=0)] = field(name="MSINGI_CACHE_MEMORY", default=8_000_000)
    # Whether addresses that users give may lead into our own network, to try it out: production refuses to start so.
    fetch_inside: bool = field(name="MSINGI_FETCH_INSIDE", default=False)
    audit_days: Annotated[int, Meta(ge=1)] = field(name="MSINGI_AUDIT_DAYS", default=400)
    metrics_dir: str = field(name="PROMETHEUS_MULTIPROC_DIR", default="")

    @property
    def production(self) -> bool:
        return self.env == "production"

    @property
    def secrets_before(self) -> list[str]:
        return [each.strip() for each in self.old_secrets.split(",") if each.strip()]

    @property
    def base_url(self) -> str:
        """Where people reach the house; links in letters begin with it, never with a request's Host."""
        return self.public_url.rstrip("/") or f"http://localhost:{self.port}"


class BadSettings(Exception):
    """All that is missing or wrong in the environment, a line each."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("These settings keep it from starting:\n" + "\n".join(f"  {fault}" for fault in faults))
        self.faults = faults


S = TypeVar("S", bound=Struct)


def load(kind: type[S], environ: Mapping[str, str]) -> S:
    """Read a settings Struct from `environ`. Raises BadSettings, which names every fault at once."""
    loaded: S = load_all([kind], environ)[kind]
    return loaded


def load_all(kinds: Iterable[type[Any]], environ: Mapping[str, str]) -> dict[type, Any]:
    """Read the settings of the house and of its products. Raises BadSettings with the faults of all of them."""
    loaded: dict[type, Any] = {}
    faults: list[str] = []
    for kind in kinds:
        values, wrong = _read(kind, environ)
        if not wrong:
            try:
                loaded[kind] = msgspec.convert(values, kind, strict=False)
            except msgspec.ValidationError as fault:  # what a Struct itself asks of its fields together
                wrong = [str(fault)]
            else:
                wrong = _weak(loaded[kind], environ)
        faults += wrong
    if faults:
        raise BadSettings(faults)
    return loaded


def _read(kind: type[Struct], environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    values: dict[str, str] = {}
    faults: list[str] = []
    for each in msgspec.structs.fields(kind):
        given = environ.get(each.encode_name, "")
        if given == "":
            if each.required:
                faults.append(f"{each.encode_name} is missing")
            continue
        values[each.encode_name] = given
        try:
            msgspec.convert(given, each.type, strict=False)
        except msgspec.ValidationError as fault:
            shown = "the given value" if _is_secret(each.type) else repr(given)
            faults.append(f"{each.encode_name}: {shown} will not do: {fault}")
    return values, faults


def _weak(loaded: Struct, environ: Mapping[str, str]) -> list[str]:
    """Outside development a secret is set on purpose, is no default, and is not one letter over and over."""
    if environ.get("MSINGI_ENV", "development") != "production":
        return []
    faults = []
    for each in msgspec.structs.fields(loaded):
        if not _is_secret(each.type):
            continue
        value: Any = getattr(loaded, each.name)
        if value == "" and each.default == "":
            continue  # a secret that there need not be
        if value == each.default or value == DEVELOPMENT_SECRET:
            faults.append(f"{each.encode_name} still has its default; set one, for example: openssl rand -hex 32")
        elif len(set(value)) < 10:
            faults.append(f"{each.encode_name} is too easy to guess; set one, for example: openssl rand -hex 32")
    if isinstance(loaded, Settings) and not (loaded.public_url or loaded.allowed_hosts):
        faults.append("MSINGI_PUBLIC_URL is missing: production must know under which address it is reached")
    if isinstance(loaded, Settings) and loaded.fetch_inside:
        faults.append("MSINGI_FETCH_INSIDE opens the inner network to addresses that users give: not in production")
    return faults


def _is_secret(kind: Any) -> bool:
    return any(
        isinstance(note, Meta) and (note.extra or {}).get("secret") for note in getattr(kind, "__metadata__", ())
    )
