"""Personal data in texts, replaced by its kind: e-mail, phone, card, IBAN and national numbers."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from itertools import pairwise

from phonenumbers import (
    NumberParseException,
    PhoneNumber,
    PhoneNumberType,
    is_possible_number,
    is_valid_number,
    number_type,
    parse,
)
from stdnum import iban, luhn, numdb
from stdnum.de import idnr
from stdnum.dk import cpr
from stdnum.fi import hetu
from stdnum.no import fodselsnummer
from stdnum.se import personnummer
from stdnum.us import ssn

Check = Callable[[str], bool]
FindEnd = Callable[[re.Match[str], str], int]

EMAIL, IBAN, CARD, NATIONAL, PHONE = "e-mail", "iban", "card", "national number", "phone"
KINDS = (EMAIL, IBAN, CARD, NATIONAL, PHONE)  # in the order in which they are looked for

# No pattern crosses a line, and each repeats a bounded number of times: time grows with a text's
# length alone. `]` counts as a letter before a number, so that what was replaced makes no number of
# what was none: redacting twice changes nothing.
BEFORE = r"(?<![\w\]])(?<![0-9][-.,])"
AFTER = re.compile(r"(?!\w)(?![-.,][0-9])")
SPACE = "[ \u00a0]"
LETTERS = "A-Za-z\u00c0-\u024f"
ADDRESS = re.compile(
    rf"(?!')[{LETTERS}0-9._+%'-]{{1,64}}@(?![0-9]x\.)"  # not the picture logo@2x.png
    rf"(?:[{LETTERS}0-9-]{{1,63}}\.){{1,8}}[{LETTERS}]{{2,24}}"
)
DIGITS = re.compile("[0-9]+")
NO_LETTERS = re.compile(r"[\W\d_]+")
ACCOUNT = re.compile(
    rf"(?<![\w\]])[A-Z]{{2}}[0-9]{{2}}(?:(?:{SPACE}|-)?[A-Z0-9]){{11,30}}", re.IGNORECASE
)
CARD_NUMBER = re.compile(rf"{BEFORE}[2-6][0-9]{{3}}(?:(?:{SPACE}|-)?[0-9]){{9,15}}")
CARD_FORMS = re.compile(  # of Visa, Mastercard, Maestro, JCB, Amex and Diners
    r"4[0-9]{12}(?:[0-9]{3}){0,2}|(?:5[0-9]|2[2-7]|6[0-9]|35)[0-9]{14}|6[0-9]{18}|"
    r"3[47][0-9]{13}|3[0689][0-9]{12}"
)
NINO = r"(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?(?:[0-9]{2} ?){3}[A-D]"
NATIONAL_NUMBERS: tuple[tuple[str, Check], ...] = (
    (r"[0-9]{6}[- ]?[0-9]{4}", cpr.is_valid),  # by its date: since 2007 the modulus is not kept
    (r"(?:[0-9]{2})?[0-9]{6}[-+]?[0-9]{4}", personnummer.is_valid),
    (r"[0-9]{6} ?[0-9]{5}", fodselsnummer.is_valid),
    (r"[0-9]{6}[-+A-FU-Y][0-9]{3}[0-9A-Y]", hetu.is_valid),
    (r"[0-9]{2} ?[0-9]{3} ?[0-9]{3} ?[0-9]{3}", idnr.is_valid),
    (r"[0-9]{3}-[0-9]{2}-[0-9]{4}", ssn.is_valid),
    (NINO, bool),
)

SIGNS = "[ \u00a0()./-]"
TELEPHONE = re.compile(  # at least seven digits, in at most eight groups
    r"(?:(?<![\w\]+])\(?\+ ?|(?<![\w\]#/=+])(?<!\w-)(?<![0-9][.,]))"
    rf"\(?(?=[0-9](?:{SIGNS}{{0,3}}[0-9]){{6}})"
    rf"[0-9]{{1,15}}(?:{SIGNS}{{1,3}}(?:[0-9]{{2,12}}|0(?=\)))){{0,7}}"
)
MIN_PHONE_DIGITS, MAX_PHONE_DIGITS = 7, 15
CODES_WITH_ZERO = (49, 44, 46, 358, 33, 31, 43, 41, 32, 353)  # countries whose numbers begin with 0
MIN_DIGITS_WITH_ZERO, MAX_DIGITS_WITH_ZERO = 9, 12
CODES_OF_EIGHT_DIGITS = (45, 47)  # Denmark and Norway, where they do not
GROUPS_OF_EIGHT = {(2, 2, 2, 2), (3, 2, 3)}
GROUPS_OF_EIGHT_ALONE = {(4, 4), (2, 6), (8,)}  # with more digits beside them a key or a card
AMERICAN = re.compile("1?[2-9][0-9]{2}[2-9][0-9]{6}")
DATE = re.compile(
    r"(?:0?[1-9]|[12][0-9]|3[01])([./-])(?:0?[1-9]|1[0-2])\1(?:19|20)?[0-9]{2}(?![0-9])|"
    r"(?:19|20)[0-9]{2}([./-])(?:0[1-9]|1[0-2])\2(?:0[1-9]|[12][0-9]|3[01])(?![0-9])"
)
NO_PHONE = re.compile(  # a date without signs, two years, an IP address or a version
    r"(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])$|(?:19|20)[0-9]{2} (?:19|20)|"
    r"[0-9]{1,5}\.[0-9]{1,5}\.[0-9]{1,5}\.[0-9]"
)
BEHIND_DIGITS = re.compile(r"[0-9][ \u00a0-]$")
BEFORE_DIGITS = re.compile(rf"{SIGNS}{{1,3}}(?:[0-9]|\[{PHONE}\])")  # also those that were replaced
NO_WORDS = re.compile(r"[0-9\n\[\]]")
GAP = r".{0,20}$"  # between a word and the number that it speaks of
MAX_CONTEXT_CHARACTERS = 45  # of the word and the gap


def _compile_words(*words: str) -> re.Pattern[str]:
    """Compile words, with blanks between, that may stand before a number."""
    listed = "|".join(" ".join(words).split())
    return re.compile(rf"\b(?:{listed})\b{GAP}", re.IGNORECASE)


KEY_OF_A_PROGRAM = re.compile(r"[a-z][A-Z]\w{0,30}['\"]{0,2} ?[:=] ?['\"-]{0,2}$")  # `subsysID2: `
NAMES_A_PHONE = _compile_words(
    r"tel tlf tlfnr telephone phone mobil\w* cell\w* call fax sms whatsapp text\sme",
    r"telefon\w* ring\w* handy\w* rufnummer anrufen erreichbar",
)
NAMES_A_THING = _compile_words(
    r"order\w* ticket\w* booking\w* case invoice customer account id ids ref\w* article item part",
    r"serial build version bug kb sku key code error tracking vat ean timestamp hash memory org",
    r"product\w* model\w* li[cz]en[sz]\w* reg",
    r"ordre\w* bestil\w* sag\w* faktura\w* kunde\w* konto\w* vare\w* serie\w* kode moms cvr",
    r"pakke\w* fejl\w* produkt\w*",
    r"bestell\w* rechnung\w* artik\w* sendung\w* steuer\w* fehler\w* blz",
)


def redact_text(text: str, counts: Counter[str]) -> str:
    """Replace what is personal in a text by its kind in brackets, such as `[e-mail]`.

    Names and street addresses stay. Redacting twice changes nothing; lines stay lines, and a text
    becomes at most twice as long.

    Args:
        text: any.
        counts: of what was replaced, by kind; added to.
    """
    text = _replace(text, ADDRESS, lambda match, _: match.end(), EMAIL, counts)
    if not DIGITS.search(text):
        return text
    text = _replace(text, ACCOUNT, _find_end_of_iban, IBAN, counts)
    text = _replace(text, CARD_NUMBER, _find_end_of_card, CARD, counts)
    for pattern, find_end in FINDERS:
        text = _replace(text, pattern, find_end, NATIONAL, counts)
    return _replace(text, TELEPHONE, _find_end_of_phone, PHONE, counts)


def redact_fields(metadata: str, counts: Counter[str]) -> str:
    """Redact the values of a JSON object, each read behind its field's name: `phone: 20123456`."""
    fields = json.loads(metadata)
    redacted = _redact_value("", fields, counts)
    return metadata if redacted == fields else json.dumps(redacted, ensure_ascii=False)


def redact_all(texts: list[str]) -> tuple[list[str], Counter[str]]:
    """Redact texts, and count what was replaced, by kind."""
    counts: Counter[str] = Counter()
    return [redact_text(text, counts) for text in texts], counts


def _replace(
    text: str, pattern: re.Pattern[str], find_end: FindEnd, kind: str, counts: Counter[str]
) -> str:
    """Replace what a pattern matches, up to the end that is given of it; 0 if it is no number."""
    parts: list[str] = []
    copied = position = 0
    while match := pattern.search(text, position):
        start = match.start()
        written = (
            f"{']' if parts else ''}{text[max(copied, start - MAX_CONTEXT_CHARACTERS) : start]}"
        )
        if end := find_end(match, written):
            parts += [text[copied:start], f"[{kind}]"]
            copied = position = end
            counts[kind] += 1
        else:
            position = start + 1
    return "".join([*parts, text[copied:]]) if parts else text


def _redact_value(name: str, value: object, counts: Counter[str]) -> object:
    match value:
        case dict():
            return {key: _redact_value(key, part, counts) for key, part in value.items()}
        case list():
            return [_redact_value(name, part, counts) for part in value]
        case str() | int() if not isinstance(value, bool):
            head = f"{NO_LETTERS.sub(' ', name)}: "
            redacted = redact_text(f"{head}{value}", counts).removeprefix(head)
            return value if redacted == f"{value}" else redacted
    return value


def _make_finder(form: str, is_valid: Check) -> tuple[re.Pattern[str], FindEnd]:
    pattern = re.compile(f"{BEFORE}{form}{AFTER.pattern}", re.IGNORECASE)
    return pattern, lambda match, _: match.end() if is_valid(match[0]) else 0


FINDERS = [_make_finder(form, is_valid) for form, is_valid in NATIONAL_NUMBERS]


def _list_ends(match: re.Match[str]) -> list[int]:
    """List where a number may end: behind each group of its digits, the last first."""
    ends = [match.start() + group.end() for group in DIGITS.finditer(match[0])]
    return [end for end in reversed(ends) if AFTER.match(match.string, end)]


@cache
def _count_iban_characters(country: str) -> int:
    """Count the characters of a country's accounts; 0 where it has none."""
    _, form = numdb.get("iban").info(f"{country}00")[0]
    lengths = re.findall(r"([0-9]+)!", form.get("bban", ""))
    return 4 + sum(map(int, lengths)) if lengths else 0


def _find_end_of_iban(match: re.Match[str], _: str) -> int:
    count = _count_iban_characters(match[0][:2].upper())
    ends = [match.start() + i for i, sign in enumerate(match[0], 1) if sign.isalnum()]
    if not count or len(ends) < count:
        return 0
    end = ends[count - 1]
    account = match.string[match.start() : end].replace("\u00a0", "")
    return end if AFTER.match(match.string, end) and iban.is_valid(account) else 0


def _find_end_of_card(match: re.Match[str], _: str) -> int:
    for end in _list_ends(match):
        digits = "".join(DIGITS.findall(match.string[match.start() : end]))
        if CARD_FORMS.fullmatch(digits) and luhn.is_valid(digits):
            return end
    return 0


def _find_end_of_phone(match: re.Match[str], before: str) -> int:
    start = match.start()
    numbers = [match.string[start:end] for end in _list_ends(match)]
    counts = [sum(map(str.isdigit, number)) for number in numbers]
    fitting = [
        number
        for number, count in zip(numbers, counts, strict=True)
        if MIN_PHONE_DIGITS <= count <= MAX_PHONE_DIGITS
    ]
    if not fitting or DATE.match(match[0]):
        return 0
    words = NO_WORDS.split(before)[-1]
    is_named = NAMES_A_PHONE.search(words)
    is_thing = NAMES_A_THING.search(words) or KEY_OF_A_PROGRAM.search(before)
    for number in fitting:
        groups = DIGITS.findall(number)
        digits = "".join(groups)
        end = start + len(number)
        is_alone = not (BEHIND_DIGITS.search(before) or BEFORE_DIGITS.match(match.string, end))
        if "+" in number:
            is_phone = _is_phone_abroad(digits, is_possible_number)
        elif is_named:
            is_phone = True
        elif NO_PHONE.match(number) or (is_thing and (digits[0] != "0" or len(groups) == 1)):
            is_phone = False
        elif digits.startswith("00"):
            is_phone = _is_phone_abroad(digits[2:], is_valid_number)
        elif digits.startswith("0"):
            is_phone = _begins_with_zero(number, groups, digits)
        else:
            is_phone = _is_grouped_as_phone(number, groups, is_alone=is_alone)
        if is_phone:
            return end
    return 0


def _is_phone_abroad(digits: str, check: Callable[[PhoneNumber], bool]) -> bool:
    """Say whether digits that begin with a calling code are a phone number."""
    try:
        return digits[0] != "0" and check(parse(f"+{digits}"))
    except NumberParseException:
        return False


def _begins_with_zero(number: str, groups: list[str], digits: str) -> bool:
    """Say whether digits are a number of a country where it begins with 0 for its own people."""
    if not MIN_DIGITS_WITH_ZERO <= len(digits) <= MAX_DIGITS_WITH_ZERO:
        return False
    if len(groups[0]) == 1 and "(" not in number:
        return False
    candidates = (_make_number(code, digits[1:]) for code in CODES_WITH_ZERO)
    if len(groups) == 1:
        return any(number_type(n) == PhoneNumberType.MOBILE for n in candidates)
    return any(map(is_valid_number, candidates))


def _is_grouped_as_phone(number: str, groups: list[str], *, is_alone: bool) -> bool:
    """Say whether digits are in groups as Danes, Norwegians or Americans write a number."""
    lengths, digits = tuple(map(len, groups)), "".join(groups)
    if lengths in ((3, 3, 4), (1, 3, 3, 4)):
        return AMERICAN.fullmatch(digits) is not None
    signs = {number[a.end() : b.start()] for a, b in pairwise(DIGITS.finditer(number))}
    allowed = (" ", "\u00a0", "-") if len(groups) > 2 else (" ", "\u00a0")  # 1234-5678 is an id
    if len(signs) > 1 or not signs.issubset(allowed):
        return False
    if lengths not in GROUPS_OF_EIGHT and not (is_alone and lengths in GROUPS_OF_EIGHT_ALONE):
        return False
    return any(is_valid_number(_make_number(code, digits)) for code in CODES_OF_EIGHT_DIGITS)


def _make_number(calling_code: int, digits: str) -> PhoneNumber:
    return PhoneNumber(country_code=calling_code, national_number=int(digits))
