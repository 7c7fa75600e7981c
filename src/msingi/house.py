"""The web server and the worker of one machine: copies of one process that loaded the application, and keeps them.

By itself each of them loads the same 87 MB. As copies they share what they do not write to; a copy begins in
milliseconds, also in the place of one that died. Where they run apart, `msingi serve` and `msingi worker` start each.
"""

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

import click

from msingi import cli, web
from msingi.kit import config
from msingi.kit.embedded import CannotStart
from msingi.supervise import Asked, Copy, Stopped, Supervisor, end_with_parent


@click.command()
@click.option("--logs", type=click.Path(path_type=Path), help="A folder for web.log and worker.log; else all is said.")
@click.option("--began", type=float, help="When those who read what it says began to count, by the monotonic clock.")
def main(logs: Path | None, began: float | None) -> None:
    """Keep a web server and a worker alive until SIGTERM or SIGINT."""
    asked, settings = Asked(), config.load(config.Settings, os.environ)
    web.load()
    supervisor = Supervisor(cli.Narrator(began).say, asked)
    try:
        for copy in copies(logs):
            supervisor.start(copy)
        supervisor.wait_ready(settings.host, settings.port)
        supervisor.keep()
    except Stopped:
        pass
    except CannotStart as reason:
        raise click.ClickException(str(reason)) from reason
    finally:
        supervisor.stop()


def copies(logs: Path | None) -> Sequence[Copy]:
    """What is copied, in the order of its start."""
    return _copy("web server", logs, _serve), _copy("worker", logs, _work)


def _copy(name: str, logs: Path | None, work: Callable[[], object]) -> Copy:
    log = logs / f"{name.split()[0]}.log" if logs else Path(os.devnull)
    return Copy(name, (), {}, log, aloud=logs is None, work=work)


def _serve() -> None:
    sys.argv = cli.granian(config.load(config.Settings, os.environ))[2:]
    parent = os.getpid()
    os.register_at_fork(after_in_child=lambda: end_with_parent(parent))
    web.serve()


def _work() -> None:
    app = import_module("msingi.asgi")
    cli.work(app.settings, app.products, app.parts)


if __name__ == "__main__":
    main()
