"""Prints the key that a house's accounts sign with, as hexadecimal digits: a process of its own, since a process can
hold one house only."""

import asyncio
import os
from typing import Any

from msingi import catalog
from msingi.kit import config, data_keys, state
from msingi.products.accounts.actions import signing_keys


async def signing_key() -> bytes:
    """The key of the house that the environment tells of."""
    products = catalog.products()
    kinds: list[type[Any]] = [config.Settings, *(product.settings for product in products if product.settings)]
    parts = config.load_all(kinds, os.environ)
    async with state.running(parts.pop(config.Settings), products, parts):
        await data_keys.load()
        return (await signing_keys.signing_key()).private_bytes()


if __name__ == "__main__":
    print(asyncio.run(signing_key()).hex())
