"""The shop's webhooks: what merchants may be told of."""

from msingi.kit.webhooks.hooks import Webhooks
from msingi.products.shop.contract import WebhookTurnedOff
from msingi.products.shop.rules.webhooks import KINDS

hooks = Webhooks("shop", KINDS, WebhookTurnedOff)
