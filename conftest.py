"""The kit's own fixtures, for every test of the house, and the order in which a run takes them."""

import pytest

pytest_plugins = ["msingi.kit.testing"]

# The files that take longest, by the seconds that they took: half a minute and more, then a quarter and more.
LONGEST = (
    "tests/test_account_drills.py",
    "tests/test_shop_checks.py",
    "tests/test_shop_processes.py",
    "tests/test_house.py",
    "src/msingi/products/shop/tests/test_orders.py",
    "src/msingi/kit/tests/test_till.py",
    "tests/test_up.py",
    "tests/test_faults.py",
    "src/msingi/kit/tests/test_events.py",
    "tests/test_checks.py",
    "tests/test_apart.py",
    "src/msingi/kit/tests/test_worker.py",
    "src/msingi/kit/tests/test_idempotency.py",
    "src/msingi/kit/tests/test_drain.py",
    "tests/test_second_factors.py",
    "src/msingi/kit/tests/test_till_crashes.py",
    "src/msingi/kit/tests/test_edge.py",
    "src/msingi/kit/tests/test_live.py",
    "src/msingi/kit/tests/test_files_pictures.py",
    "src/msingi/kit/tests/test_embedded.py",
    "src/msingi/kit/tests/test_jobs.py",
    "src/msingi/products/accounts/tests/test_access.py",
    "src/msingi/products/shop/tests/test_invoices.py",
    "src/msingi/products/shop/tests/test_checkout.py",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest come first, then all that start whole houses: no test process is to be left alone at the end."""
    gone = [name for name in LONGEST if not (config.rootpath / name).exists()]
    if gone:
        raise pytest.UsageError(f"conftest.py names files that are not there: {', '.join(gone)}")
    items.sort(key=lambda item: _turn(item.nodeid.partition("::")[0]))


def _turn(file: str) -> int:
    if file in LONGEST:
        return LONGEST.index(file)
    return len(LONGEST) + (not file.startswith("tests/"))
