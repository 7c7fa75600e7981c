"""The kit's own fixtures, for every test of the house, and the order in which a run takes them."""

import pytest

pytest_plugins = ["msingi.kit.testing"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that start whole houses come first, so that no test process is left alone with them at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith("tests/"))
