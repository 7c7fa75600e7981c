"""`msingi check …`: the suites on the command line."""

from typing import Any

import click

from msingi.checks.running import NAMES, run


@click.command("check")
@click.argument("name", type=click.Choice(NAMES))
@click.option("--url", default="http://127.0.0.1:8000", show_default=True, help="The server to check.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
@click.option("--accounts-url", default="", help="Where people register and sign in, if elsewhere.")
@click.option("--admin-email", default="", help="An admin's address, for the checks that need one.")
@click.option("--admin-password", default="", help="The admin's password; better: MSINGI_CHECK_ADMIN=address:password.")
@click.option("--anonymous", is_flag=True, help="The server has no sign-in.")
@click.option("--only", default="", help="Run only checks whose title has this in it.")
@click.option(
    "--smtp", type=click.IntRange(1, 65535), help="Receive letters here; the server has SMTP_URL=smtp://localhost:PORT."
)
@click.option(
    "--require", default="", help="What the server may not leave out: all, or names such as organisations,openid."
)
@click.option("--sandbox", default="", help="Where the payment sandbox is that the server asks for money.")
def check(
    name: str,
    url: str,
    as_json: bool,
    accounts_url: str,
    admin_email: str,
    admin_password: str,
    anonymous: bool,
    only: str,
    smtp: int | None,
    require: str,
    sandbox: str,
) -> None:
    """Check from outside whether a server keeps the contract in docs/contracts/NAME.md."""
    admin = (admin_email, admin_password) if admin_email else None
    wanted = frozenset(filter(None, require.replace(" ", "").split(",")))
    who: dict[str, Any] = {"accounts_url": accounts_url, "admin": admin, "anonymous": anonymous}
    code = run(name, url, as_json, **who, only=only, smtp=smtp, required=wanted, sandbox=sandbox)
    raise SystemExit(code)
