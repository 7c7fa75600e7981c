"""Live topics over Socket.IO and Server-Sent Events, with resume.

`tell` adds a message to one capped Redis stream. Every web process tails the stream and hands each message to its own
connections, so there is no manager to agree with and no process that others wait for. A connection resumes from
the id it saw last; where the stream cannot prove that nothing is missing, it is told `resync`: read the state again.
A message may come twice and is lost with Redis: what must arrive is an event, what must be true is read.
"""

from msingi.kit.live.hub import close_for, run_tailer
from msingi.kit.live.sockets import SocketServer
from msingi.kit.live.streams import sse_handler
from msingi.kit.live.telling import recheck, tell
from msingi.kit.live.topics import Key, Topic

__all__ = ["Key", "SocketServer", "Topic", "close_for", "recheck", "run_tailer", "sse_handler", "tell"]
