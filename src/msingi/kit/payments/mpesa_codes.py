"""What M-Pesa's result codes mean: our word for each, whether it is the last word, and what people are told.

The number is what M-Pesa promises; its description is not, and is never read here. One number can mean different
things for a push to a phone and for money sent out, so there are two tables. What stands in neither is no verdict.
"""

from collections.abc import Mapping

from msgspec import Struct


class Meaning(Struct, frozen=True):
    """`final`: nothing will follow, for certain. Otherwise the money may still move, and M-Pesa is asked again."""

    code: str
    final: bool
    en: str
    sw: str


PAID = "0"
STILL = frozenset({"4999", "500.001.1001"})  # what a query answers while the payer has the prompt

UNHEARD_OF = Meaning(
    "unclear",
    False,
    "M-Pesa has not said clearly what became of this. We keep asking; do not pay again yet.",
    "M-Pesa haijaeleza wazi kilichotokea. Tunaendelea kuuliza; usilipe tena kwa sasa.",
)

# The payer's side is at fault, or had a say.
_NO_MONEY = Meaning(
    "insufficient_funds",
    True,
    "There is not enough money in the M-Pesa account. Top up and try again.",
    "Hakuna salio la kutosha kwenye akaunti ya M-Pesa. Ongeza salio kisha ujaribu tena.",
)
_TOO_LITTLE = Meaning(
    "below_minimum",
    True,
    "The amount is less than M-Pesa takes.",
    "Kiasi ni kidogo kuliko kinachokubaliwa na M-Pesa.",
)
_TOO_MUCH = Meaning(
    "above_maximum",
    True,
    "The amount is more than M-Pesa takes at a time.",
    "Kiasi ni kikubwa kuliko kinachokubaliwa na M-Pesa kwa mara moja.",
)
_DAILY = Meaning(
    "daily_limit",
    True,
    "This would pass the account's daily M-Pesa limit. Try again tomorrow, or with another number.",
    "Kiasi hiki kinazidi kikomo cha siku cha akaunti ya M-Pesa. Jaribu tena kesho, au kwa nambari nyingine.",
)
_FULL = Meaning(
    "account_full",
    True,
    "The M-Pesa account that receives the money would hold more than it may.",
    "Akaunti ya M-Pesa inayopokea pesa ingezidi kiasi kinachoruhusiwa.",
)
_BUSY = Meaning(
    "busy",
    True,
    "M-Pesa is very busy and did not take this. Try again in a minute.",
    "M-Pesa ina shughuli nyingi na haikupokea ombi hili. Jaribu tena baada ya dakika moja.",
)
_NOT_CLEAR = Meaning(
    "failed_inside",
    False,
    "M-Pesa had a fault of its own. We are asking what became of the money; do not pay again yet.",
    "M-Pesa imepata hitilafu. Tunauliza pesa zilikoishia; usilipe tena kwa sasa.",
)
_OUR_SETUP = Meaning(
    "not_set_up",
    True,
    "M-Pesa does not allow us this at the moment. Pay in another way, please, or tell us.",
    "M-Pesa haituruhusu kufanya hivi kwa sasa. Tafadhali lipa kwa njia nyingine, au tujulishe.",
)
_UNREGISTERED = Meaning(
    "not_registered",
    True,
    "This number has no active M-Pesa account.",
    "Nambari hii haina akaunti ya M-Pesa inayotumika.",
)

PUSHES: Mapping[str, Meaning] = {
    PAID: Meaning("paid", True, "Paid. Thank you!", "Imelipwa. Asante!"),
    "1": _NO_MONEY,
    "2": _TOO_LITTLE,
    "3": _TOO_MUCH,
    "4": _DAILY,
    "8": _FULL,
    "11": Meaning(
        "payer_blocked",
        True,
        "This M-Pesa account cannot pay at the moment. Ask Safaricom, or pay in another way.",
        "Akaunti hii ya M-Pesa haiwezi kulipa kwa sasa. Wasiliana na Safaricom, au lipa kwa njia nyingine.",
    ),
    "17": _NOT_CLEAR,
    "26": _BUSY,
    "1001": Meaning(
        "phone_in_use",
        True,
        "Another M-Pesa payment is open on this phone. Finish it, wait a minute, and try again.",
        "Kuna malipo mengine ya M-Pesa yanaendelea kwenye simu hii. Yamalize, subiri dakika moja, kisha ujaribu tena.",
    ),
    "1019": Meaning(
        "expired",
        True,
        "The time to pay ran out and nothing was taken. Try again.",
        "Muda wa kulipa umeisha na hakuna pesa zilizotolewa. Jaribu tena.",
    ),
    "1025": Meaning(
        "prompt_not_sent",
        True,
        "M-Pesa could not send the request to the phone. Check the number and try again.",
        "M-Pesa haikuweza kutuma ombi kwenye simu. Hakikisha nambari ni sahihi kisha ujaribu tena.",
    ),
    "1031": (
        _CANCELLED := Meaning(
            "cancelled",
            True,
            "The payment was cancelled on the phone. Nothing was taken.",
            "Malipo yameghairiwa kwenye simu. Hakuna pesa zilizotolewa.",
        )
    ),
    "1032": _CANCELLED,
    "1036": (
        _NO_ANSWER := Meaning(
            "no_answer",
            False,
            "The phone did not answer in time: it may be off, or the PIN came late. If you did enter it, wait: "
            "we are asking M-Pesa. If not, try again.",
            "Simu haikujibu kwa wakati: huenda imezimwa, au PIN imechelewa. Kama uliweka PIN, subiri: "
            "tunauliza M-Pesa. Kama hukuiweka, jaribu tena.",
        )
    ),
    "1037": _NO_ANSWER,  # a PIN in the last second is still processed
    "2001": Meaning(
        "wrong_pin",
        True,
        "The M-Pesa PIN was wrong. Try again.",
        "PIN ya M-Pesa si sahihi. Jaribu tena.",
    ),
    "2006": _OUR_SETUP,
    "2028": _OUR_SETUP,
    "2029": _OUR_SETUP,
    "8006": Meaning(
        "pin_locked",
        True,
        "The M-Pesa PIN is locked after too many tries. Ask Safaricom to open it.",
        "PIN ya M-Pesa imefungwa baada ya kujaribu mara nyingi. Wasiliana na Safaricom ili ifunguliwe.",
    ),
    "9999": _NOT_CLEAR,  # also stands for whatever has no number of its own
    "SFC_IC0003": _UNREGISTERED,
}

PAYOUTS: Mapping[str, Meaning] = {
    PAID: Meaning("refunded", True, "The money was sent.", "Pesa zimetumwa."),
    "1": Meaning(
        "float_empty",
        True,
        "Our own M-Pesa account does not hold enough to send this; we will top it up and send it again.",
        "Akaunti yetu ya M-Pesa haina salio la kutosha kutuma pesa hizi; tutaongeza salio na kuzituma tena.",
    ),
    "2": _TOO_LITTLE,
    "3": _TOO_MUCH,
    "4": _DAILY,
    "8": _FULL,
    "11": _OUR_SETUP,
    "15": Meaning(
        "asked_twice",
        False,
        "M-Pesa has this refund already; we are asking what became of it.",
        "M-Pesa tayari ina ombi hili la kurudisha pesa; tunauliza limefikia wapi.",
    ),
    "17": _NOT_CLEAR,
    "18": _OUR_SETUP,
    "20": _OUR_SETUP,
    "21": _OUR_SETUP,
    "26": _BUSY,
    "2001": _OUR_SETUP,  # here it is our own password that was wrong
    "2006": _OUR_SETUP,
    "2028": _OUR_SETUP,
    "2040": _UNREGISTERED,
    "8006": _OUR_SETUP,
    "9999": _NOT_CLEAR,
    "SFC_IC0003": _UNREGISTERED,
}

DECLINED = Meaning(
    "declined",
    True,
    "M-Pesa declined to send the money.",
    "M-Pesa imekataa kutuma pesa.",
)
PENDING = Meaning(
    "pending",
    False,
    "Enter your M-Pesa PIN on your phone.",
    "Weka PIN yako ya M-Pesa kwenye simu yako.",
)

# What we refuse ourselves, before M-Pesa is asked.
OURS = (
    Meaning(
        "invalid_amount",
        True,
        "M-Pesa takes whole shillings only, from 1 to 250,000.",
        "M-Pesa hupokea shilingi kamili pekee, kuanzia 1 hadi 250,000.",
    ),
    Meaning(
        "no_kenyan_mobile",
        True,
        "This is not the number of a Kenyan mobile phone.",
        "Hii si nambari ya simu ya mkononi ya Kenya.",
    ),
    Meaning(
        "takes_at_once",
        True,
        "M-Pesa takes money at once; it cannot set it aside for later.",
        "M-Pesa huchukua pesa papo hapo; haiwezi kuzihifadhi kwa baadaye.",
    ),
    Meaning(
        "cannot_void",
        True,
        "A payment by M-Pesa cannot be called back; what was paid can be refunded.",
        "Malipo ya M-Pesa hayawezi kubatilishwa; kilicholipwa kinaweza kurudishwa.",
    ),
)

_BY_CODE = {each.code: each for each in (*PUSHES.values(), *PAYOUTS.values(), *OURS, DECLINED, PENDING, UNHEARD_OF)}


def of_push(number: str) -> Meaning:
    """What a ResultCode means that ends a push to a phone."""
    return PUSHES.get(number, UNHEARD_OF)


def of_payout(number: str) -> Meaning:
    """What a ResultCode means that ends money being sent out."""
    return PAYOUTS.get(number, UNHEARD_OF)


def text_of(code: str, language: str = "en") -> str:
    """What a person is told for one of our codes, in English or Swahili (`sw`)."""
    meaning = _BY_CODE.get(code, UNHEARD_OF)
    return meaning.sw if language == "sw" else meaning.en
