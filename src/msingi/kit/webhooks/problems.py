"""What may be wrong with what is asked of webhooks."""

from msingi.kit.errors import Conflict, Invalid


class UnknownWebhookEvents(Invalid):
    """Nobody here tells of {given}; the events are: {known}, a group of them such as `{group}`, and `*`."""


class TooManyWebhooks(Conflict):
    """There may be at most {most} endpoints."""


class WebhookIsOff(Conflict):
    """This endpoint is off: turn it on before anything is sent to it."""


class DeliveryOnItsWay(Conflict):
    """This message is being sent, or waits for its next try."""
