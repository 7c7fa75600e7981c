"""Every test of notes runs twice: over MongoDB, and over the memory of the process."""

import pytest


@pytest.fixture(scope="module", params=["mongo", "memory"])
def environ(request: pytest.FixtureRequest) -> dict[str, str]:
    return {"NOTES_STORE": request.param}
