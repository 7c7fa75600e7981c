"""Another process of the same house, on the same databases: what it answers to a bearer, asked by this one."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from msingi.kit.testing import Client, house_of
from msingi.products.accounts.product import product

Ask = Callable[[str, str], Awaitable[int]]


@asynccontextmanager
async def elsewhere() -> AsyncIterator[Ask]:
    """Start it; `await ask(path, bearer)` is the status that a GET gets there. It ends with the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin
    assert process.stdout

    async def said(mark: bytes) -> bytes:
        while not (line := await process.stdout.readline()).startswith(mark):  # type: ignore[union-attr]
            assert line, "the other process is gone"
        return line.removeprefix(mark)

    async def ask(path: str, bearer: str) -> int:
        process.stdin.write(json.dumps([path, bearer]).encode() + b"\n")  # type: ignore[union-attr]
        return int(await said(b"STATUS "))

    try:
        async with asyncio.timeout(90):
            await said(b"READY")
        yield ask
    finally:
        process.stdin.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), 10)
        if process.returncode is None:
            process.kill()
            await process.wait()


async def main() -> None:
    """Answer what comes in on standard input, until it is closed."""
    async with house_of([product]) as house:
        print("READY", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            path, bearer = json.loads(line)
            client = Client(house, None)
            async with client.http:
                reply = await client.http.get(client.url(path), headers={"authorization": f"Bearer {bearer}"})
            print(f"STATUS {reply.status_code}", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
