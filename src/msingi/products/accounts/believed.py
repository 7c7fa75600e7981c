"""Secrets that a process looked up a moment ago: believed for a while, and never if they were revoked since."""

from msingi.kit import revocations
from msingi.kit.actors import Actor
from msingi.kit.clock import seconds

LONGEST = 30.0  # seconds
REMEMBERED = 20_000


class Believed:
    """Whose they are, by their hash, and until when that holds: the oldest go first."""

    def __init__(self) -> None:
        self.actors: dict[bytes, tuple[Actor, float]] = {}

    def find(self, digest: bytes) -> Actor | None:
        """Who shows this, if that is still to be believed."""
        actor, until = self.actors.get(digest, (None, 0.0))
        if actor is not None and seconds() < until and not revocations.is_revoked(actor):
            return actor
        self.forget(digest)
        return None

    def forget(self, digest: bytes) -> None:
        """Look this up again when it comes next."""
        self.actors.pop(digest, None)

    def keep(self, digest: bytes, actor: Actor) -> Actor:
        """Believe this from now on."""
        while len(self.actors) >= REMEMBERED:
            del self.actors[next(iter(self.actors))]
        self.actors[digest] = (actor, min(seconds() + LONGEST, actor.expires_at))
        return actor

    def start_over(self) -> None:
        """Believe nobody: for tests, which empty the collections."""
        self.actors.clear()
