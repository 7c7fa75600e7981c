"""What is told of an export."""

from datetime import datetime
from typing import Literal

from msingi.kit.db import View


class ExportView(View):
    """`state` is `waiting` or `ready`; `size` counts bytes. It can be fetched until `expires_at`."""

    id: str
    state: Literal["waiting", "ready"]
    size: int
    created_at: datetime
    ready_at: datetime | None
    expires_at: datetime
