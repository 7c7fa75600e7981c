"""A provider over real sockets that says whatever a test wants: an honest one, a hostile one, GitHub and Facebook."""

import secrets
import socket
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from hmac import digest
from time import time
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from aiohttp import web
from joserfc import jwk, jws

Claims = dict[str, Any]
SECRET = "the client's secret, long enough"


class Stranger:
    """One provider on a port: `people` are its accounts by subject, `codes` what it handed out and not taken back."""

    def __init__(self, port: int, client: str = "us") -> None:
        self.port, self.client, self.issuer = port, client, f"http://127.0.0.1:{port}"
        self.key = jwk.RSAKey.generate_key(2048, {"kid": "one", "use": "sig", "alg": "RS256"})
        self.codes: dict[str, dict[str, Any]] = {}
        self.tokens: dict[str, Claims] = {}
        self.asked: list[str] = []
        self.says_iss = False
        self.fails_with = 0
        self.metadata: Claims = {}

    # ---- what the browser does there

    def agree(self, url: str, said: Claims, **faults: Any) -> str:
        """Say yes over there; the query that the browser brings back. `faults` change what the token will say."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        assert asked["client_id"] == self.client
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        assert asked["redirect_uri"].startswith("http://msingi.test/sign-in/with/")
        code = secrets.token_urlsafe(16)
        self.codes[code] = {**asked, "claims": said, "faults": faults}
        back = {"code": code, "state": asked["state"]}
        return urlencode(back | ({"iss": self.issuer} if self.says_iss else {}))

    # ---- what it serves

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._noting])
        app.router.add_get("/.well-known/openid-configuration", self._discovery)
        app.router.add_get("/keys", self._keys)
        app.router.add_post("/token", self._token)
        app.router.add_get("/userinfo", self._userinfo)
        app.router.add_post("/login/oauth/access_token", self._token)  # GitHub
        app.router.add_get("/user", self._github_user)
        app.router.add_get("/user/emails", self._github_emails)
        app.router.add_post("/v21.0/oauth/access_token", self._token)  # Facebook
        app.router.add_get("/v21.0/me", self._facebook_me)
        return app

    @web.middleware
    async def _noting(self, request: web.Request, handler: Callable[..., Any]) -> web.StreamResponse:
        self.asked.append(request.path)
        if self.fails_with:
            return web.Response(status=self.fails_with, text="no")
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _discovery(self, request: web.Request) -> web.Response:
        document = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "authorization_response_iss_parameter_supported": self.says_iss,
        }
        return web.json_response(document | self.metadata)

    async def _keys(self, request: web.Request) -> web.Response:
        odd = {"kty": "AKP", "kid": "later", "alg": "ML-DSA-44", "pub": "AA"}
        return web.json_response({"keys": [odd, self.key.as_dict(private=False)]})

    async def _token(self, request: web.Request) -> web.Response:
        """A code is good once, for who knows the verifier, with the address it was asked with."""
        form = await request.post()
        asked = self.codes.pop(str(form.get("code", "")), None)
        fits = asked is not None and form["redirect_uri"] == asked["redirect_uri"]
        if not fits or asked is None or _challenge(str(form["code_verifier"])) != asked["code_challenge"]:
            github = request.path.startswith("/login")
            return web.json_response({"error": "invalid_grant"}, status=200 if github else 400)
        token = secrets.token_urlsafe(16)
        self.tokens[token] = asked["claims"] | asked["faults"].get("userinfo", {})
        return web.json_response(
            {"access_token": token, "token_type": "Bearer", "id_token": self._id_token(asked, token)}
        )

    def _id_token(self, asked: dict[str, Any], token: str) -> str:
        faults, at = asked["faults"], int(time())
        half = sha256(token.encode()).digest()[:16]
        claims = {
            "iss": self.issuer,
            "aud": self.client,
            "iat": at,
            "exp": at + 300,
            "nonce": asked.get("nonce"),
            "at_hash": _text(half),
            **asked["claims"],
            **faults.get("claims", {}),
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        header = {"alg": "RS256", "kid": "one"} | faults.get("header", {})
        key = faults.get("key", self.key)
        if header["alg"] == "none":
            return f"{_part(header)}.{_part(claims)}."
        if isinstance(key, bytes):  # HMAC by hand: joserfc would not make such a key
            said = f"{_part(header)}.{_part(claims)}"
            return f"{said}.{_text(digest(key, said.encode(), sha256))}"
        return jws.serialize_compact(header, web.json_response(claims).text or "", key, algorithms=[header["alg"]])

    async def _userinfo(self, request: web.Request) -> web.Response:
        return web.json_response(self._shown(request))

    async def _github_user(self, request: web.Request) -> web.Response:
        said = self._shown(request)
        return web.json_response({"id": said["id"], "login": said["login"], "name": None, "email": "public@lies.test"})

    async def _github_emails(self, request: web.Request) -> web.Response:
        return web.json_response(self._shown(request)["emails"])

    async def _facebook_me(self, request: web.Request) -> web.Response:
        assert len(request.query["appsecret_proof"]) == 64
        return web.json_response(self._shown(request))

    def _shown(self, request: web.Request) -> Claims:
        return self.tokens[request.headers["authorization"].removeprefix("Bearer ")]


def _challenge(verifier: str) -> str:
    return _text(sha256(verifier.encode()).digest())


def _part(said: Claims) -> str:
    return _text((web.json_response(said).text or "").encode())


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


@asynccontextmanager
async def served(*strangers: Stranger) -> AsyncIterator[None]:
    """These providers, each on its port."""
    runners = [web.AppRunner(each.app()) for each in strangers]
    try:
        for each, runner in zip(strangers, runners, strict=True):
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", each.port).start()
        yield
    finally:
        for runner in runners:
            await runner.cleanup()


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
