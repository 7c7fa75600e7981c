"""Text messages: numbers in the one spelling in which they are kept, and the provider that takes messages over HTTP.

A message is written and sent as a letter is (kit.mail); here is only what is said to the provider. It speaks as
Africa's Talking's bulk interface does: JSON with the number, the text and the sender, a key in a header, and in the
answer a status for each number.
"""

import unicodedata
from typing import Literal
from urllib.parse import unquote, urlsplit

import msgspec
import phonenumbers
from msgspec import Struct, field

from msingi.kit import fetch, state
from msingi.kit.errors import InvalidFields

TAKEN = (100, 101, 102)  # processed, sent, queued
ABOUT_THE_NUMBER = (403, 404, 406, 407, 409)  # no number, of no such kind, refuses us, cannot be reached
# The alphabet of GSM 03.38, and those of it that count as two.
GSM_TWICE = frozenset("^{}\\[~]|€")
GSM = GSM_TWICE | frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà"
)
PRINTED = {"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "...", "•": "*"}
LONGEST = 320  # characters: two messages' worth


class NotTaken(Exception):
    """The provider did not take a message: for good (`dead`), or until it or our account with it is well again."""

    def __init__(self, fault: str, *, about: Literal["number", "provider"]) -> None:
        super().__init__(fault)
        self.about = about


class Recipient(Struct):
    number: str = ""
    status: str = ""
    code: int = field(name="statusCode", default=0)


class Said(Struct):
    recipients: list[Recipient] = field(name="Recipients", default_factory=list)
    message: str = field(name="Message", default="")


class Answer(Struct):
    said: Said = field(name="SMSMessageData", default_factory=Said)


def number_of(text: str, region: str = "", *, pointer: str = "/phone") -> str:
    """A phone number as E.164 writes it, `+254712345678`. One without a country is read as of `region` (`KE`).

    Only numbers that may be a mobile's will do. Raises InvalidFields.
    """
    try:
        found = phonenumbers.parse(text[:64], region or state.settings().sms_region)
    except phonenumbers.NumberParseException:
        raise _no_number(pointer) from None
    mobile = (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE_OR_MOBILE)
    if not phonenumbers.is_valid_number(found) or phonenumbers.number_type(found) not in mobile or found.extension:
        raise _no_number(pointer)
    return phonenumbers.format_number(found, phonenumbers.PhoneNumberFormat.E164)


def _no_number(pointer: str) -> InvalidFields:
    error = {"pointer": pointer, "in": "body", "message": "this is not the number of a mobile phone"}
    return InvalidFields(errors=[error])


def country_of(number: str) -> str:
    """The country of a number in E.164, such as `KE`."""
    return phonenumbers.region_code_for_number(phonenumbers.parse(number)) or "ZZ"


def plain(text: str) -> str:
    """A text in the letters that every phone has, as far as that can be: spaces that break no line, marks of printers
    and letters with signs of their own would make it cost as much as two or three."""
    composed = unicodedata.normalize("NFC", text)
    return "".join(each if each in GSM else _alike(each) for each in composed)


def _alike(char: str) -> str:
    if char.isspace():
        return " "
    bare = PRINTED.get(char) or "".join(
        each for each in unicodedata.normalize("NFKD", char) if not unicodedata.combining(each)
    )
    return bare if set(bare) <= GSM else char


def messages(text: str) -> int:
    """How many messages a text is sent as, and paid for: of 160 letters that every phone has, or of 70 of others."""
    if set(text) <= GSM:
        length, alone, joined = len(text) + sum(each in GSM_TWICE for each in text), 160, 153
    else:
        length, alone, joined = len(text.encode("utf-16-be")) // 2, 70, 67
    return 1 if length <= alone else -(-length // joined)


async def speak(to: str, text: str) -> None:
    """Hand one message to the provider of the settings. Raises NotTaken, fetch.Unreachable.

    The address may name the account: `https://account@api.africastalking.com/version1/messaging/bulk`.
    """
    settings = state.settings()
    server = urlsplit(settings.sms_url)
    url = server._replace(netloc=server.netloc.rpartition("@")[2]).geturl()
    wanted = {"username": unquote(server.username or ""), "phoneNumbers": [to], "message": text[:LONGEST]}
    if settings.sms_from:
        wanted["senderId"] = settings.sms_from
    headers = {"apiKey": settings.sms_key, "accept": "application/json"}
    reply = await fetch.post(url, json=wanted, headers=headers, tries=1)
    if not reply.ok:
        raise NotTaken(f"HTTP {reply.status}", about="provider")
    _check(reply)


def _check(reply: fetch.Reply) -> None:
    try:
        said = reply.json(Answer).said
    except msgspec.MsgspecError:
        raise NotTaken("an answer that is none", about="provider") from None
    if not said.recipients:
        raise NotTaken(said.message or "no number in the answer", about="provider")
    first = said.recipients[0]
    if first.code not in TAKEN:
        about: Literal["number", "provider"] = "number" if first.code in ABOUT_THE_NUMBER else "provider"
        raise NotTaken(f"{first.code} {first.status}", about=about)
