"""Work without a request: keys that sign tokens are renewed in time."""

from msingi.kit.jobs import cron
from msingi.products.accounts.actions import signing_keys


@cron("17 * * * *")
async def renew_signing_key() -> None:
    await signing_keys.renew()
