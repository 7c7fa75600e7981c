"""The web server: the application is loaded once, and its processes are copies of the one that did."""

import gc
import multiprocessing
import os
from importlib import import_module

from msingi.kit import memory


def main() -> None:
    """Serve as Granian's own command does, with its options.

    A process then starts in milliseconds instead of a second and a half, also in the place of one that died, and
    shares the memory of what was loaded. Nothing may be open at that moment: threads and connections do not live on
    in a copy. The kit opens them in the application's lifespan.
    """
    load()
    serve()


def load() -> None:
    """Import and build all that this process, or copies of it, need, in as little memory as it takes."""
    memory.be_thrifty()
    with memory.without(*memory.NOT_USED):
        import_module("msingi.kit.app")
        catalog = import_module("msingi.catalog")
        catalog.products(catalog.wanted(os.environ))
    for name in ("msingi.asgi", "msingi.kit.worker", "uvloop", "granian.cli", "anyio._backends._asyncio"):
        import_module(name)
    memory.give_back()
    gc.freeze()  # else the first collection writes to every page, and nothing stays shared


def serve() -> None:
    """Be Granian's command, by `sys.argv`."""
    if "fork" in multiprocessing.get_all_start_methods():  # from Python 3.14 on it has to be asked for
        multiprocessing.set_start_method("fork")
    import_module("granian.cli").cli(auto_envvar_prefix="GRANIAN")


if __name__ == "__main__":
    main()
