"""What a till may refuse, and why."""

from msingi.kit.errors import Conflict, Forbidden, Invalid


class NoSuchProvider(Invalid):
    """There is no way to pay that is called {provider}."""


class SumNotTaken(Invalid):
    """{provider} does not take {amount} (in minor units) {currency}."""


class PaymentDiffers(Conflict):
    """There is a payment of this id already, for something else."""


class CannotCapture(Conflict):
    """This payment cannot be captured so: it is {state}, {authorised} (in minor units) are set aside."""


class CannotVoid(Conflict):
    """This payment cannot be given up any more: it is {state}. Refund it instead."""


class NotUnasked(Conflict):
    """It is known already whose money this is."""


class RefundTooHigh(Conflict):
    """No more than {left} (in minor units) can go back: the rest is refunded, or somebody asked for that already."""


class NotWaiting(Conflict):
    """This refund does not wait for anybody's approval: it is {state}."""


class AnotherPersonDecides(Forbidden):
    """Who asked for a refund does not approve it: another person does."""
