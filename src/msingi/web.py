"""The web server: the application is loaded once, and its processes are copies of the one that did."""

import gc
import multiprocessing
from importlib import import_module

from granian import cli

from msingi.kit import memory


def main() -> None:
    """Serve as Granian's own command does, with its options.

    A process then starts in milliseconds instead of a second and a half, also in the place of one that died, and
    shares the memory of what was loaded. Nothing may be open at that moment: threads and connections do not live on
    in a copy. The kit opens them in the application's lifespan.
    """
    memory.be_thrifty()
    if "fork" in multiprocessing.get_all_start_methods():  # from Python 3.14 on it has to be asked for
        multiprocessing.set_start_method("fork")
        with memory.without(*memory.NOT_USED):
            import_module("msingi.kit.app")
            import_module("msingi.catalog").products(catalog.wanted(os.environ))
        import_module("msingi.asgi")
        gc.collect()
        gc.freeze()  # else the first collection writes to every page, and nothing stays shared
    cli.cli(auto_envvar_prefix="GRANIAN")


if __name__ == "__main__":
    main()
