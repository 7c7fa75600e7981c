"""Keys are renewed in time, and nobody is ever shown one that they could not have known."""

from datetime import timedelta

from msingi.kit import clock, state, tokens
from msingi.kit.testing import World
from msingi.products.accounts import jobs, queries
from msingi.products.accounts.actions import signing_keys
from msingi.products.accounts.models.signing_keys import stored_keys
from msingi.products.accounts.tests.people import sign_in, with_token


async def _kids() -> list[str]:
    return [key.kid for key in await queries.signing_keys.published_keys()]


async def test_b4_the_next_key_is_published_a_day_before_it_signs(world: World) -> None:
    first = (await signing_keys.signing_key()).public.kid
    await jobs.renew_signing_key()
    assert await _kids() == [first]
    with clock.shifted(timedelta(days=89, seconds=1)):
        await jobs.renew_signing_key()
        await jobs.renew_signing_key()
        assert (await signing_keys._key_in_use()).public.kid == first
        assert len(await _kids()) == 2
        second = (await _kids())[1]
    with clock.shifted(timedelta(days=90, seconds=2)):
        assert (await signing_keys._key_in_use()).public.kid == second
        assert await _kids() == [first, second]  # its last tokens are still good
    with clock.shifted(timedelta(days=90, minutes=12)):
        assert await _kids() == [second]
        await jobs.renew_signing_key()
        assert await _kids() == [second]


async def test_a_token_of_the_retired_key_is_believed_to_its_end(world: World) -> None:
    with clock.shifted(timedelta(days=89, hours=23, minutes=59)):
        await jobs.renew_signing_key()
        old = await sign_in(world, "ann")
    with clock.shifted(timedelta(days=90, minutes=5)):
        await tokens.ring().reload()
        await with_token(world, old).get("/me")


async def test_private_keys_are_sealed_where_they_lie(world: World) -> None:
    key = await signing_keys.signing_key()
    stored = (await stored_keys.many({}))[0]
    assert key.private_bytes() not in stored.private
    assert stored.public == key.public.raw


async def test_a_signing_key_that_cannot_be_opened_is_succeeded_and_does_not_stop_the_house(world: World) -> None:
    before = await signing_keys.signing_key()
    await stored_keys.raw.update_many({}, {"$set": {"private": b"sealed under a scheme of long ago"}})
    state.part(signing_keys._Signer).start_over()
    after = await signing_keys.signing_key()
    assert after.public != before.public
    assert await _kids() == [before.public.kid, after.public.kid]
