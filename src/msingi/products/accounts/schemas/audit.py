"""What is told of an entry of the audit log."""

from datetime import datetime
from typing import Any

from msingi.kit.audit import Outcome
from msingi.kit.db import View


class EntryView(View):
    """`address` stands for where it came from: the same for the same place, and readable for nobody."""

    id: str
    created_at: datetime
    kind: str
    outcome: Outcome
    actor: str
    acting: str
    session: str
    about: str
    request: str
    address: str
    facts: dict[str, Any]
