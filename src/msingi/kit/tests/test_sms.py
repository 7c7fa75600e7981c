"""What a text message costs: how many a text becomes, and how it is kept to one."""

import pytest

from msingi.kit import sms


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 1),
        ("a" * 160, 1),
        ("a" * 161, 2),
        ("€" * 80, 1),
        ("€" * 81, 2),
        ("a" * 306, 2),
        ("a" * 307, 3),
        ("ŋ" * 70, 1),
        ("ŋ" * 71, 2),
        ("🙂" * 35, 1),
        ("🙂" * 36, 2),
    ],
)
def test_a_text_becomes_so_many_messages(text: str, count: int) -> None:
    assert sms.messages(text) == count


def test_a_text_is_kept_in_the_letters_that_every_phone_has() -> None:
    assert sms.plain("Ksh\xa01,299.00 – “Ng’ombe” … ě\u0301") == 'Ksh 1,299.00 - "Ng\'ombe" ... e'
    assert sms.plain("é e\u0301 Ñ €") == "é é Ñ €"
    assert sms.plain("ŋ 李") == "ŋ 李"
