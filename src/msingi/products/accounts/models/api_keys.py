"""API keys: a person's programs come in with them; of the secret only SHA-256 is kept."""

from datetime import datetime

from msingi.kit.db import Collection, Doc, Index


class ApiKey(Doc, kw_only=True):
    """Good for what its scopes say, as far as its owner may do that, until it is revoked or expires."""

    account: str
    name: str
    secret: bytes
    scopes: list[str]
    expires_at: datetime
    last_used_at: datetime | None = None  # to a minute
    revoked_at: datetime | None = None
    warned_at: datetime | None = None  # when its owner was told that it ends soon


api_keys = Collection(ApiKey, "api_keys", indexes=["account -_id", Index("expires_at", expires_after=30 * 24 * 3600)])
