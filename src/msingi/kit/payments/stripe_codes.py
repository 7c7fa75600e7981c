"""Why a payment with Stripe did not work, in words that a payer can act on.

The codes are those of docs.stripe.com/declines/codes and /error-codes. A card that was reported lost or stolen, or that
the bank takes for fraud, is told no more than that it was declined: who holds it may not be who owns it.
"""

DECLINED = (
    "Your bank declined this payment. Ask your bank, or pay in another way.",
    "Benki yako imekataa malipo haya. Wasiliana na benki yako, au lipa kwa njia nyingine.",
)
AGAIN = (
    "The payment could not be processed just now. Try again in a moment, or pay in another way.",
    "Malipo hayakuweza kushughulikiwa kwa sasa. Jaribu tena baada ya muda mfupi, au lipa kwa njia nyingine.",
)
NOT_THIS_CARD = (
    "This card does not take such a payment. Use another card, or ask your bank.",
    "Kadi hii haikubali malipo ya aina hii. Tumia kadi nyingine, au uliza benki yako.",
)
PROVE = (
    "Your bank wants to be sure that it is you. Try again and confirm the payment when your bank asks.",
    "Benki yako inataka kuhakikisha kuwa ni wewe. Jaribu tena na uthibitishe malipo benki itakapouliza.",
)
TOO_MUCH = (
    "The amount is above what this card may pay now. Use another card, or ask your bank.",
    "Kiasi hiki kimezidi kile ambacho kadi hii inaruhusiwa kulipa sasa. Tumia kadi nyingine, au uliza benki yako.",
)
AMOUNT = (
    "This amount cannot be paid in this way.",
    "Kiasi hiki hakiwezi kulipwa kwa njia hii.",
)
NUMBER = (
    "The card's number is not right. Check it and try again.",
    "Namba ya kadi si sahihi. Ihakiki kisha ujaribu tena.",
)
DATE = (
    "The card's date of expiry is not right. Check it and try again.",
    "Tarehe ya mwisho ya kadi si sahihi. Ihakiki kisha ujaribu tena.",
)
SECURITY_CODE = (
    "The card's security code (the three or four digits) is not right. Check it and try again.",
    "Namba ya usalama ya kadi (tarakimu tatu au nne) si sahihi. Ihakiki kisha ujaribu tena.",
)
PIN = (
    "The PIN was not right, or was tried too often. Use another card, or ask your bank.",
    "PIN si sahihi, au imejaribiwa mara nyingi mno. Tumia kadi nyingine, au uliza benki yako.",
)
TWICE = (
    "The same amount was paid with this card a moment ago. Look whether that went through before you try again.",
    "Kiasi hicho hicho kimelipwa kwa kadi hii muda mfupi uliopita. Hakikisha kama kimepita kabla ya kujaribu tena.",
)
CANCELLED = (
    "The payment was cancelled. Nothing was taken.",
    "Malipo yamesitishwa. Hakuna kiasi kilichokatwa.",
)
NOT_SENT_BACK = (
    "The money could not be sent back to this card or account.",
    "Fedha hazikuweza kurudishwa kwenye kadi au akaunti hii.",
)
ALREADY = (
    "This has been done already, or can no longer be done.",
    "Jambo hili limeshafanyika, au haliwezekani tena.",
)
OTHERWISE = (
    "The payment provider did not accept this.",
    "Mtoa huduma wa malipo hakukubali ombi hili.",
)

TEXTS: dict[str, tuple[str, str]] = {
    # what the bank says
    "card_declined": DECLINED,
    "declined": DECLINED,
    "generic_decline": DECLINED,
    "do_not_honor": DECLINED,
    "do_not_try_again": DECLINED,
    "call_issuer": DECLINED,
    "no_action_taken": DECLINED,
    "not_permitted": DECLINED,
    "security_violation": DECLINED,
    "service_not_allowed": DECLINED,
    "stop_payment_order": DECLINED,
    "revocation_of_all_authorizations": DECLINED,
    "revocation_of_authorization": DECLINED,
    "transaction_not_allowed": DECLINED,
    "highest_risk_level": DECLINED,
    "fraudulent": DECLINED,
    "lost_card": DECLINED,
    "stolen_card": DECLINED,
    "pickup_card": DECLINED,
    "restricted_card": DECLINED,
    "merchant_blacklist": DECLINED,
    "insufficient_funds": (
        "There is not enough money on this card. Use another card, or top it up and try again.",
        "Kadi hii haina salio la kutosha. Tumia kadi nyingine, au ongeza salio kisha ujaribu tena.",
    ),
    "card_velocity_exceeded": TOO_MUCH,
    "withdrawal_count_limit_exceeded": TOO_MUCH,
    "card_not_supported": NOT_THIS_CARD,
    "currency_not_supported": (
        "This card does not pay in this currency. Use another card.",
        "Kadi hii hailipi kwa sarafu hii. Tumia kadi nyingine.",
    ),
    "expired_card": (
        "This card has expired. Use another card.",
        "Muda wa kadi hii umekwisha. Tumia kadi nyingine.",
    ),
    "incorrect_number": NUMBER,
    "invalid_number": NUMBER,
    "invalid_account": NOT_THIS_CARD,
    "new_account_information_available": NOT_THIS_CARD,
    "incorrect_cvc": SECURITY_CODE,
    "invalid_cvc": SECURITY_CODE,
    "invalid_expiry_month": DATE,
    "invalid_expiry_year": DATE,
    "incorrect_zip": (
        "The postal code does not match the card. Check it and try again.",
        "Msimbo wa posta haulingani na kadi. Uhakiki kisha ujaribu tena.",
    ),
    "incorrect_address": (
        "The address does not match the card. Check it and try again.",
        "Anwani hailingani na kadi. Ihakiki kisha ujaribu tena.",
    ),
    "incorrect_pin": PIN,
    "invalid_pin": PIN,
    "offline_pin_required": PIN,
    "online_or_offline_pin_required": PIN,
    "pin_try_exceeded": PIN,
    "authentication_required": PROVE,
    "authentication_not_handled": PROVE,
    "payment_intent_authentication_failure": PROVE,
    "mobile_device_authentication_required": PROVE,
    "approve_with_id": AGAIN,
    "issuer_not_available": AGAIN,
    "processing_error": AGAIN,
    "reenter_transaction": AGAIN,
    "try_again_later": AGAIN,
    "lock_timeout": AGAIN,
    "payment_intent_payment_attempt_expired": AGAIN,
    "payment_intent_payment_attempt_failed": AGAIN,
    "invalid_amount": AMOUNT,
    "amount_too_large": AMOUNT,
    "amount_too_small": AMOUNT,
    "duplicate_transaction": TWICE,
    "testmode_decline": (
        "This is a card for tests, and this is no test. Use a real card.",
        "Hii ni kadi ya majaribio, na haya si majaribio. Tumia kadi halisi.",
    ),
    "live_mode_test_card": (
        "This is a card for tests, and this is no test. Use a real card.",
        "Hii ni kadi ya majaribio, na haya si majaribio. Tumia kadi halisi.",
    ),
    # why it was cancelled
    "abandoned": CANCELLED,
    "automatic": CANCELLED,
    "duplicate": CANCELLED,
    "expired": CANCELLED,
    "failed_invoice": CANCELLED,
    "requested_by_customer": CANCELLED,
    "void_invoice": CANCELLED,
    # why money did not go back
    "charge_for_pending_refund_disputed": NOT_SENT_BACK,
    "expired_or_canceled_card": NOT_SENT_BACK,
    "lost_or_stolen_card": NOT_SENT_BACK,
    "merchant_request": NOT_SENT_BACK,
    "unknown": NOT_SENT_BACK,
    "failed": NOT_SENT_BACK,
    "canceled": NOT_SENT_BACK,
    "charge_disputed": NOT_SENT_BACK,
    "balance_insufficient": NOT_SENT_BACK,
    "charge_already_refunded": ALREADY,
    "charge_already_captured": ALREADY,
    "payment_intent_unexpected_state": ALREADY,
    "charge_expired_for_capture": (
        "What was set aside is free again: it was not taken in time.",
        "Kiasi kilichohifadhiwa kimeachiliwa: hakikuchukuliwa kwa wakati.",
    ),
    "resource_missing": (
        "The payment provider knows no such payment.",
        "Mtoa huduma wa malipo hana rekodi ya malipo hayo.",
    ),
    "not_set_up": (
        "Payment by card is not set up as it should be. Pay in another way; we have been told.",
        "Malipo kwa kadi hayajawekwa sawa. Lipa kwa njia nyingine; tumeshaarifiwa.",
    ),
}


def text_of(code: str, language: str = "en") -> str:
    """What to tell the payer in English or Swahili (`sw`); for a code that nobody knows, a general sentence."""
    english, swahili = TEXTS.get(code, OTHERWISE)
    return swahili if language == "sw" else english
