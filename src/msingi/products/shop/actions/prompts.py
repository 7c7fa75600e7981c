"""How often a phone may be made to ring: prompts go to whatever number somebody types, who need not be whose it is."""

from msingi.kit import limits, sealing, state
from msingi.kit.payments.face import Refused, RingsPhones
from msingi.products.shop.models.settings import ShopSettings
from msingi.products.shop.rules.orders import TooManyPrompts
from msingi.products.shop.till import till


async def count(provider: str, phone: str) -> None:
    """Count a prompt to this phone, before it is sent, over all buyers and processes. Raises TooManyPrompts (429).

    Redis is told a keyed hash of the number. What rings no phone is not counted.
    """
    teller = till().providers.get(provider)
    if not isinstance(teller, RingsPhones):
        return
    try:
        number = teller.rung(phone)
    except Refused:
        return  # it is no number, as the provider will say: nothing rings
    quotas = limits.parse_all(state.part(ShopSettings).prompts_to_phone)
    await limits.check(f"shop prompts to:{sealing.blind('shop.prompts', number)}", quotas, TooManyPrompts)
