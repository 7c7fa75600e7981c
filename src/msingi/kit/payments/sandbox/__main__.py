"""Run the stand-ins of payment providers: `python -m msingi.kit.payments.sandbox --port 8100`."""

import argparse
import os
import sys

from granian import Granian
from granian.constants import Interfaces
from granian.log import LogLevels

from msingi.kit.payments.sandbox.app import RefusesProduction, refuse_production


def main(arguments: list[str] | None = None) -> None:
    """Serve until SIGTERM, in one process, since all that is known is in its memory."""
    parser = argparse.ArgumentParser(prog="python -m msingi.kit.payments.sandbox", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8100)
    parser.add_argument("--accept-after", type=float, help="seconds after which a phone pays by itself (2)")
    parser.add_argument("--stripe-hook", help="where to tell Stripe's events; signed with MSINGI_STRIPE_WEBHOOK_SECRET")
    given = parser.parse_args(arguments)
    try:
        refuse_production()
    except RefusesProduction as refusal:
        sys.exit(str(refusal))
    if given.accept_after is not None:
        os.environ["MSINGI_SANDBOX_ACCEPT_AFTER"] = str(given.accept_after)
    if given.stripe_hook:
        os.environ["MSINGI_SANDBOX_STRIPE_HOOK"] = given.stripe_hook
    Granian(
        "msingi.kit.payments.sandbox.app:build",
        address=given.host,
        port=given.port,
        interface=Interfaces.ASGI,
        factory=True,
        workers=1,
        log_level=LogLevels.warning,
        workers_kill_timeout=5,
    ).serve()


if __name__ == "__main__":
    main()
