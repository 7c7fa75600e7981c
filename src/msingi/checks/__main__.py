"""`python -m msingi.checks notes --url …`: the suites without the rest of the house."""

from msingi.checks.command import check

check()
