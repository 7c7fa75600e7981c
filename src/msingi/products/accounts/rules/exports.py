"""Decisions about what people take away."""

from msingi.kit.errors import Conflict


class ExportNotReady(Conflict):
    """This export is still being put together; a letter will say when it is ready."""
