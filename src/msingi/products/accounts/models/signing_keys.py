"""The keys that sign access tokens."""

from datetime import datetime

from msingi.kit.db import Collection, Doc


class StoredKey(Doc, kw_only=True):
    """A key that signs access tokens from a time on, until the next one does. Its id counts: `000001`, `000002`."""

    public: bytes
    private: bytes  # sealed
    signs_from: datetime


stored_keys = Collection(StoredKey, "signing_keys")
