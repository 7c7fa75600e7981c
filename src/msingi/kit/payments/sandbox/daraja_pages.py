"""Pages of the stand-in of Daraja for people: a phone with its prompt, and a list of what can be tried."""

from html import escape
from time import monotonic

from msingi.kit.payments.sandbox.daraja import MAGIC, MAGIC_PUSHES, MAGIC_SUM, Daraja
from msingi.kit.payments.sandbox.daraja_says import Prompt
from msingi.kit.payments.sandbox.wire import Reply, Request, page

LOOK = """<style>
body { font: 1rem/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 42rem; padding: 0 1rem; color: #16211b }
.phone { max-width: 20rem; margin: 2rem auto; padding: 2.5rem 1rem; border: .6rem solid #16211b; border-radius: 2rem }
.phone form { background: #eef4ef; border-radius: .5rem; padding: 1rem }
input, button { font: inherit; padding: .5rem; width: 100%; box-sizing: border-box; margin-top: .5rem }
button { border: 0; border-radius: .4rem; background: #1d7a3c; color: #fff } button.quiet { background: #5b6b61 }
td, th { text-align: left; padding: .2rem .8rem .2rem 0 }
</style>"""
PUSHES = {
    "cut": "the reply to the push is lost",
    "error": "the push is answered with an error",
    "callback_first": "the callback comes before the reply",
    "limited": "the push is refused: too many",
    "late_reply": "the reply to the push takes 8 seconds",
}


async def answer(daraja: Daraja, request: Request) -> Reply | None:
    """The page of a path below `/mpesa`; None if there is none."""
    place, _, number = request.path.removeprefix("/").partition("/")
    if place == "" and request.method == "GET":
        return _index(daraja)
    if place == "statement" and request.method == "GET":
        return Reply(200, daraja.statement().encode(), "text/csv; charset=utf-8")
    if place != "phone" or not number.isdigit() or len(number) > 15:
        return None
    if request.method == "POST":
        return await _pressed(daraja, number, request.form())
    daraja.watch(number)
    return _phone(number, daraja.shown(number))


async def _pressed(daraja: Daraja, number: str, given: dict[str, str]) -> Reply:
    """A person pressed a button on the prompt that was shown; one that is gone by now is none of theirs."""
    prompt = daraja.shown(number)
    pin = given.get("pin", "")
    if prompt is not None and prompt.id == given.get("prompt"):
        if given.get("press") == "cancel":
            daraja.press(prompt, "1032")
        elif given.get("press") == "send":
            daraja.press(prompt, "0" if len(pin) == 4 and pin.isdigit() and pin != "0000" else "2001")
    return Reply(303, b"", "text/plain", {"location": f"/mpesa/phone/{number}"})


def _phone(number: str, prompt: Prompt | None) -> Reply:
    shown = _prompt(prompt) if prompt else "<p>Nothing here. A prompt appears by itself.<br>Hakuna ombi kwa sasa.</p>"
    # A prompt that a person is typing into must not be loaded anew.
    again = "" if prompt else '<meta http-equiv="refresh" content="1">'
    return page(_whole(f"Phone {escape(number)}", f"<div class=phone><p>+{escape(number)}</p>{shown}</div>", again))


def _prompt(prompt: Prompt) -> str:
    return f"""<form method=post>
<p><b>M-PESA</b><br>Do you want to pay KSh {prompt.amount:,}.00 to {escape(prompt.shop)}, account no.
{escape(prompt.account)}?<br><small>Je, ungependa kulipa KSh {prompt.amount:,}.00?</small></p>
<input type=hidden name=prompt value="{escape(prompt.id)}">
<label>M-PESA PIN <input name=pin type=password inputmode=numeric maxlength=4 autofocus autocomplete=off></label>
<button name=press value=send>Send / Tuma</button>
<button name=press value=cancel class=quiet>Cancel / Ghairi</button>
<p><small>Any four digits pay; 0000 is a wrong PIN. To ignore it, do nothing for {_left(prompt)}.</small></p>
</form>"""


def _left(prompt: Prompt) -> str:
    return f"a minute ({monotonic() - prompt.made:.0f} s have passed)"


def _index(daraja: Daraja) -> Reply:
    numbers = {**{end: said for end, (_, _, said) in MAGIC.items()}}
    numbers |= {end: PUSHES[str(fault["fault"])] for end, fault in MAGIC_PUSHES.items()}
    magic = "".join(
        f'<tr><td><a href="/mpesa/phone/2547000000{end}">07000000{end}</a><td>{escape(said)}'
        for end, said in sorted(numbers.items())
    )
    newest = "".join(
        f'<tr><td><a href="/mpesa/phone/{each.number}">{each.number}</a><td>KSh {each.amount:,}'
        f"<td>{escape(each.account)}<td>{escape(each.result) or 'on the phone'}<td>{each.receipt}"
        for each in list(reversed(daraja.prompts.values()))[:20]
    )
    return page(
        _whole(
            "M-Pesa, as it is played here",
            f"<h1>M-Pesa, as it is played here</h1><p>No money moves. Any Kenyan number pays by itself after "
            f"{daraja.control.settings.accept_after:g} seconds, unless its page is open: then you decide. "
            f"A sum of {MAGIC_SUM:,} shillings and a ResultCode ends with that code.</p>"
            f"<table>{magic}</table><h2>Newest prompts</h2><table>{newest}</table>"
            '<p><a href="/mpesa/statement">Statement (CSV)</a></p>',
        )
    )


def _whole(title: str, body: str, head: str = "") -> str:
    return (
        f'<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">'
        f"<title>{title}</title>{head}{LOOK}<body>{body}"
    )
