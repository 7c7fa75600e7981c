"""Black-box acceptance suites: they speak HTTP and know nothing of the code behind it."""

from msingi.checks.running import NAMES, run

__all__ = ["NAMES", "run"]
