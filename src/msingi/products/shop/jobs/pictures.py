"""Pictures that nobody uses are swept."""

import structlog

from msingi.kit.jobs import cron
from msingi.products.shop.actions import pictures

log = structlog.get_logger("shop")


@cron("17 * * * *")
async def sweep_pictures() -> None:
    """Remove, file by file, what was sent in and never shown, or is shown no longer."""
    while count := await pictures.sweep():
        log.info("pictures_swept", count=count)
