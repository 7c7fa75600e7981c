"""Who may do what with second factors. These people's tokens belong to no session, so what changes one is 401."""

from typing import Any

CREDENTIAL: dict[str, Any] = {
    "id": "AAAA",
    "rawId": "AAAA",
    "type": "public-key",
    "response": {"clientDataJSON": "AAAA", "authenticatorData": "AAAA", "signature": "AAAA"},
}
NEW: dict[str, Any] = {**CREDENTIAL, "response": {"clientDataJSON": "AAAA", "attestationObject": "AAAA"}}
TABLE = """
    POST   /sign-in/second-factor     422     422  422
    POST   /sign-in/passkey/options   200     200  200
    POST   /sign-in/passkey           422     422  422
    POST   /step-up/options           401     200  200
    POST   /step-up                   401     403  403
    GET    /me/factors                401     200  200
    POST   /me/totp                   401     201  201
    PUT    /me/totp                   401     409  409
    DELETE /me/totp                   401     404  404
    POST   /me/recovery-codes         401     409  409
    POST   /me/passkeys/options       401     200  200
    POST   /me/passkeys               401     422  422
    GET    /me/passkeys               401     200  200
    PATCH  /me/passkeys/of-nobody     401     404  404
    DELETE /me/passkeys/of-nobody     401     404  404
    DELETE /users/bob/factors         401     403  204
    DELETE /users/nobody/factors      401     403  404
"""
BODY = {
    "POST /sign-in/second-factor": {"ticket": "nobodys", "code": "123456"},
    "POST /sign-in/passkey": {"ticket": "nobodys", "credential": CREDENTIAL},
    "POST /step-up": {"password": "not this one"},
    "PUT /me/totp": {"code": "123456"},
    "POST /me/passkeys": {"ticket": "nobodys", "credential": NEW},
    "PATCH /me/passkeys/of-nobody": {"name": "Mine"},
}
