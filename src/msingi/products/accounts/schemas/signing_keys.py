"""The public keys, as everybody gets them."""

from msingi.kit.db import View


class KeyView(View):
    """A public key as RFC 8037 writes it."""

    kty: str
    crv: str
    kid: str
    use: str
    alg: str
    x: str


class KeysView(View):
    keys: list[KeyView]
