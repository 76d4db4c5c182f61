"""PII patterns: one expression and one check for each form. All are linear: bounded, and guarded so that a
long run of digits or letters is tried at its start alone.

`\\b` is no guard here: to Python a Han character is part of a word, and "电话13812345678" would not be found.
"""

import functools
import ipaddress
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

Kind = Literal["secret", "email", "ip", "id_card", "bank_card", "phone"]
Check = Callable[[str, int, int], bool]  # text, start, end: is what the expression found what it looks like?

D = "[0-9０-９]"
NO_DIGIT_BEFORE, NO_DIGIT_AFTER = f"(?<!{D})", f"(?!{D})"
ALONE_BEFORE = f"(?<![0-9０-９A-Za-z_+＋#$])(?<!{D}[.,-])"  # not part of a name, a decimal, a price or a longer code
ALONE_AFTER = f"(?![0-9０-９A-Za-z_%])(?![.,-]{D})"
ASCII_DIGITS = str.maketrans("０１２３４５６７８９Ｘｘ＋", "0123456789Xx+")
EXTENSION = f"(?:[ ]?(?:x|ext\\.? ?|转|-转){D}{{1,6}})?"

LOCAL = "[A-Za-z0-9._%+\\-Ａ-Ｚａ-ｚ０-９．＿－]"
EMAIL = (
    f"(?<!{LOCAL}){LOCAL}{{1,64}}[@＠](?:[A-Za-z0-9\\-Ａ-Ｚａ-ｚ０-９－]{{1,63}}[.．]){{1,8}}"
    "[A-Za-zＡ-Ｚａ-ｚ]{2,24}(?![A-Za-z0-9@＠(Ａ-Ｚａ-ｚ０-９])"
)
IPV4 = r"(?<![0-9A-Za-z_.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![0-9A-Za-z_])(?!\.[0-9A-Za-z])"
IPV6 = r"(?<![0-9A-Za-z:.])[23][0-9A-Fa-f]{3}:(?:[0-9A-Fa-f]{0,4}:){1,6}[0-9A-Fa-f]{0,4}(?![0-9A-Za-z:])"
RESIDENT_ID = (
    f"(?<![0-9０-９A-Za-z_])(?<!{D}[.])[1-9１-９]{D}{{5}}[ -]?(?:18|19|20|１８|１９|２０){D}{{6}}[ -]?{D}{{3}}[0-9０-９XxＸｘ]"
    "(?![0-9０-９A-Za-z_])"
)
SOCIAL_SECURITY = f"{ALONE_BEFORE}(?!000|666|9)[0-9]{{3}}-(?!00)[0-9]{{2}}-(?!0000)[0-9]{{4}}{ALONE_AFTER}"
BANK_CARD = f"{ALONE_BEFORE}[2-69１２３４５６９1](?:[ -]?{D}){{11,18}}{ALONE_AFTER}"
INTERNATIONAL = f"(?<![0-9０-９A-Za-z_+＋])[+＋]{D}{{1,3}}(?:[ .\\-\xa0]{{0,2}}[(（]?{D}{{1,11}}[)）]?){{1,6}}{EXTENSION}{ALONE_AFTER}"
DIALLED = f"{ALONE_BEFORE}00[1-9][0-9]{{0,2}}[ -](?:[0-9]{{2,5}}[ -]){{1,4}}[0-9]{{3,5}}{EXTENSION}{ALONE_AFTER}"
NORTH_AMERICAN = (
    f"{ALONE_BEFORE}(?:1[ .-])?(?:\\([2-9][0-9]{{2}}\\)[ ]?|[2-9][0-9]{{2}}[.-])[2-9][0-9]{{2}}[.-][0-9]{{4}}{EXTENSION}{ALONE_AFTER}"
)
TRUNK = f"{ALONE_BEFORE}(?<!{D} )0[1-9][0-9]{{0,3}}(?P<sep>[ .-])[0-9]{{2,4}}(?:(?P=sep)[0-9]{{2,4}}){{1,3}}{ALONE_AFTER}"
CHINESE_MOBILE = (
    f"(?<![0-9０-９A-Za-z_])(?<!{D}[.,])(?:[+＋]?[8８][6６][ -]?)?[1１][3-9３-９]{D}(?:[ -]?{D}{{4}}){{2}}(?![0-9０-９A-Za-z_%])(?![.,]{D})"
)
CHINESE_LANDLINE = (
    f"{ALONE_BEFORE}(?:[(（]0[0-9]{{2,3}}[)）][ -]?|0[0-9]{{2,3}}[- ]|400-?[0-9])[2-9][0-9]{{2,3}}-?[0-9]{{3,4}}"
    f"(?:[-转]{{1,2}}[0-9]{{1,5}})?{ALONE_AFTER}"
)
NAMED_NUMBER = f"(?<![0-9０-９A-Za-z_#$])(?<!{D}[.,-])[(（]?{D}(?:[ .()（）\\-]{{0,2}}{D}){{6,14}}{EXTENSION}{ALONE_AFTER}"

TOKEN_BEFORE = "(?<![A-Za-z0-9_-])"
PRIVATE_KEY = (
    "-----BEGIN (?:[A-Z]{2,12} ){0,2}PRIVATE KEY(?: BLOCK)?-----(?:[^-]|-(?!----)){0,20000}"
    "-----END (?:[A-Z]{2,12} ){0,2}PRIVATE KEY(?: BLOCK)?-----"
)
KNOWN_TOKEN = TOKEN_BEFORE + (
    "(?:(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])|gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255}"
    "|xox[abeoprs]-[A-Za-z0-9-]{10,250}|AIza[0-9A-Za-z_-]{35}(?![A-Za-z0-9_-])"
    "|eyJ[A-Za-z0-9_-]{8,4000}\\.eyJ[A-Za-z0-9_-]{8,4000}\\.[A-Za-z0-9_-]{8,2000})"
)
SK_TOKEN = TOKEN_BEFORE + "sk-(?:[a-z0-9]{1,12}-){0,3}[A-Za-z0-9_-]{20,200}"
SECRET_NAME = (
    "(?:passw(?:or)?d|passwd|pwd|secret(?:[_-]?(?:access[_-]?)?key)?|(?:auth[_-]?|access[_-]?|api[_-]?)?token"
    "|(?:api|access|private|auth|encryption)[_-]?key|client[_-]?secret)"
)
ASSIGNED = (
    f"(?<![A-Za-z0-9])(?i:{SECRET_NAME})[\"']?[ \\t]{{0,3}}(?:=>|:=|[:=])[ \\t]{{0,3}}"
    "(?:\"(?P<a>[^\\s\"'<>]{8,200})\"|'(?P<b>[^\\s\"'<>]{8,200})'|(?P<c>[A-Za-z0-9+/_=~.-]{16,200})(?![A-Za-z0-9+/_=~.(\\[-]))"
)

# A superset of the above that RE2 finds in one pass. A match of any form overlaps one of its matches, `reach` apart at most.
SEPARATOR = "[ .()/\xa0（）-]"
SCANNER = "|".join(
    (
        f"{D}(?:{SEPARATOR}{{0,3}}{D}){{6,}}",
        r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]",
        "[23][0-9A-Fa-f]{3}:[0-9A-Fa-f]{0,4}:",
        "[@＠]",
        "-----BEGIN ",
        "AKIA|ASIA|gh[pousr]_|github_pat_|xox[abeoprs]-|AIza|eyJ|sk-",
        f"(?i:{SECRET_NAME})[\"']?[ \\t]{{0,3}}[:=]",
    )
)


@dataclass(frozen=True)
class Form:
    """One way a kind is written: `reach` is the most characters a match has before and after what the scanner sees."""

    kind: Kind
    pattern: re.Pattern[str]
    check: Check
    reach: tuple[int, int]
    seen_as: Literal["number", "at", "secret"]


def digits_of(text: str) -> str:
    """Its digits, in ASCII."""
    return "".join(filter(str.isdecimal, text.translate(ASCII_DIGITS)))


def has_resident_checksum(number: str) -> bool:
    """ISO 7064 MOD 11-2 over the first 17 digits; the 18th is the check character, X for ten."""
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    total = sum(weight * int(digit) for weight, digit in zip(weights, number[:17], strict=True))
    return "10X98765432"[total % 11] == number[17].upper()


def has_luhn_checksum(number: str) -> bool:
    """ISO/IEC 7812: every second digit from the right doubled, digits summed, a multiple of ten."""
    doubled = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
    digits = [int(digit) for digit in number]
    return (sum(digits[-1::-2]) + sum(doubled[digit] for digit in digits[-2::-2])) % 10 == 0


def _is_resident_id(text: str, start: int, end: int) -> bool:
    number = re.sub("[ -]", "", text[start:end].translate(ASCII_DIGITS))
    if number[0] not in "1234568" or not has_resident_checksum(number):
        return False
    try:
        born = date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return False
    return 1870 <= born.year <= 2099


# First and last prefix, then lengths. Maestro's many prefixes are cut to those whose cards also come shorter than 16.
CARD_ISSUERS: tuple[tuple[str, str, frozenset[int]], ...] = (
    ("4", "4", frozenset({13, 16, 19})),
    ("51", "55", frozenset({16})),
    ("2221", "2720", frozenset({16})),
    ("34", "34", frozenset({15})),
    ("37", "37", frozenset({15})),
    ("300", "305", frozenset({14})),
    ("36", "36", frozenset({14})),
    ("38", "39", frozenset({14})),
    ("6011", "6011", frozenset({16, 19})),
    ("644", "659", frozenset({16, 19})),
    ("62", "62", frozenset({16, 17, 18, 19})),
    ("35", "35", frozenset({16})),
    ("2131", "2131", frozenset({15})),
    ("1800", "1800", frozenset({15})),
    ("5018", "5018", frozenset({12, 13, 16, 19})),
    ("5020", "5020", frozenset({12, 13, 16, 19})),
    ("5038", "5038", frozenset({12, 13, 16, 19})),
    ("5893", "5893", frozenset({12, 13, 16, 19})),
    ("6304", "6304", frozenset({12, 13, 16, 19})),
    ("6759", "6763", frozenset({12, 13, 16, 19})),
    ("9558", "9558", frozenset({19})),
)


def _is_bank_card(text: str, start: int, end: int) -> bool:
    number = digits_of(text[start:end])
    groups = re.split("[ -]", text[start:end])
    if len(set(number)) < 4 or (len(groups) > 1 and min(map(len, groups[:-1])) < 3):
        return False
    known = (len(number) in lengths and first <= number[: len(first)] <= last for first, last, lengths in CARD_ISSUERS)
    return any(known) and has_luhn_checksum(number)


VERSION_BEFORE = re.compile(
    r"(?i:v|ver|version|release|rev|build|section|sec|chapter|clause|table|figure"
    r"|oid|identifier|§|版本|版|第|章节|节)[\"'>)\]]?[ .:=(\[\"'-]{0,12}$"
    r"|[A-Za-z][/-]$|[=<>~!]= ?[\"']?$"
)


def _is_public_ipv4(text: str, start: int, end: int) -> bool:
    """Global, and no version or section number: those are small all through, or say what they are."""
    parts = text[start:end].split(".")
    octets = [int(part) for part in parts]
    if max(octets) > 255 or max(octets) < 32 or any(len(part) > 1 and part[0] == "0" for part in parts):
        return False
    return ipaddress.ip_address(text[start:end]).is_global and not VERSION_BEFORE.search(text[max(0, start - 28) : start])


def _is_public_ipv6(text: str, start: int, end: int) -> bool:
    try:
        return ipaddress.ip_address(text[start:end]).is_global
    except ValueError:
        return False


# Hosts' names that IANA does not list: those of networks without a name of their own, and those kept for examples (RFC 2606).
LOCAL_DOMAINS = frozenset(("corp", "example", "internal", "invalid", "lan", "local", "test"))
# Domains that are also what a matrix has: q@k.mT, a@b.data.
ATTRIBUTES = frozenset(("at", "cat", "data", "id", "map", "mt", "mu", "name", "net", "tr"))
SELVES = frozenset(("cls", "jnp", "np", "self", "tf", "this", "torch"))
IDENTIFIER = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
STATEMENT = re.compile(r"\s*(?:[\w.,\[\]: ]{1,80}?\s*[-+*/@]?=(?!=)|(?:return|yield|assert|if|elif|while|for|print|lambda)\b)")
SAYS_MAIL = re.compile("(?i:mail|contact|author|owner|user|邮箱)")
PATH_BEHIND = re.compile(r":(?:[\w~.-]{0,80}/|[\w-]{1,80}\.git\b)")  # git@host:org/repo, deploy@host:/var/www


@functools.cache
def top_level_domains() -> frozenset[str]:
    """The ICANN section of the Public Suffix List (publicsuffix.org, 2025-04-07), last labels in ASCII: IANA's list, with few more."""
    return frozenset((Path(__file__).parent / "top_level_domains.txt").read_text(encoding="ascii").split()) | LOCAL_DOMAINS


def _is_mail_address(text: str, start: int, end: int) -> bool:
    """Of a domain that there is, and neither a version, a path of ssh, nor a product of matrices."""
    address = unicodedata.normalize("NFKC", text[start:end])
    local, _, domain = address.partition("@")
    labels = domain.split(".")
    if local in ("git", *SELVES) or address.startswith(".") or local.endswith("."):
        return False
    if labels[-1].lower() not in top_level_domains() or not (labels[-1].islower() or labels[-1].isupper() or labels[-1].istitle()):
        return False
    if re.match(r"v?[0-9]+\.[0-9]|[0-9]x\.", domain) or PATH_BEHIND.match(text, end):
        return False
    return not _is_product(text, start, local, labels)


def _is_product(text: str, start: int, local: str, labels: list[str]) -> bool:
    """Whether it multiplies matrices: variables on both sides, an attribute behind, in a statement, outside quotes."""
    if not (IDENTIFIER.fullmatch(local) and IDENTIFIER.fullmatch(".".join(labels))):
        return False
    is_attribute = labels[-1].lower() in ATTRIBUTES
    if is_attribute and len(local) == len(labels[0]) == 1:
        return True
    before = text[max(text.rfind("\n", 0, start) + 1, start - 200) : start]
    if before.count('"') % 2 or before.count("'") % 2 or SAYS_MAIL.search(before) or not STATEMENT.match(before):
        return False
    return is_attribute or labels[0] in SELVES


TERM_BEFORE, TERM_BEHIND = re.compile(r"[*/^%] ?$"), re.compile(r" ?[*/^%]")


def _is_no_term(text: str, start: int, end: int) -> bool:
    """Not multiplied or divided: bare digits in a formula are a number."""
    return not (TERM_BEFORE.search(text[max(0, start - 2) : start]) or TERM_BEHIND.match(text, end))


def _has_digits(low: int, high: int) -> Check:
    return lambda text, start, end: low <= len(digits_of(re.split("x|ext|转", text[start:end])[0])) <= high


def _is_chinese_landline(text: str, start: int, end: int) -> bool:
    return _has_digits(10, 17)(text, start, end) and _is_no_term(text, start, end)


COUNTRY_CODE = re.compile(
    "1[2-9]|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]"
    "|2(?:1[1-368]|[2-6][0-9]|9[0-9])|3[578][0-9]|42[013]|50[0-9]|59[0-9]|6[789][0-9]|80[08]|85[02356]|88[06]|9[679][0-9]"
)


def _is_international(text: str, start: int, end: int) -> bool:
    """Of 8 to 15 digits (E.164), the first of which are a country's; eleven in North America."""
    if re.fullmatch(r"[+＋][0-9]+\.[0-9]+", text[start:end]) and not PHONE_BEFORE.search(text[max(0, start - 40) : start]):
        return False  # a decimal with its sign, unless it is said to be one, as registries do: "Phone: +1.4805058800"
    groups = re.findall("[0-9]+", re.split("x|ext|转", text[start:end].translate(ASCII_DIGITS))[0])
    number = "".join(groups)
    if not 8 <= len(number) <= 15 or not COUNTRY_CODE.match(number) or len(groups[-1]) < 2:
        return False
    return len(number) == 11 or number[0] != "1"


def _is_trunk(text: str, start: int, end: int) -> bool:
    """Nine to eleven digits; between points only the French ten in pairs, for versions have points too."""
    groups = re.findall("[0-9]+", text[start:end])
    if "." in text[start:end]:
        return len(groups) == 5 and all(len(group) == 2 for group in groups)
    return 9 <= sum(map(len, groups)) <= 11 and "00" not in groups


PHONE_BEFORE = re.compile(
    r"(?i:\b(?:(?:tele)?phones?|tel|mobile|cell|fax|call|whatsapp|dial|desk|office)\b"
    r"|\b(?:answering|reach(?:ed)?|contact|messages?)(?: \w+)? (?:at|on|to)\b|电话|手机|联系方式|传真|座机|热线|致电|拨打)"
    r"[^0-9\n]{0,16}$"
)
PHONE_AFTER = re.compile(r"[ ,\\-]{0,3}(?i:office|fax|mobile|cell|desk)\b")
YEARS = re.compile(r"(?:1[5-9]|20)[0-9]{2}[^0-9]{1,3}(?:1[5-9]|20)[0-9]{2}")


def _is_named_phone(text: str, start: int, end: int) -> bool:
    """Said to be one right before or right behind."""
    if YEARS.fullmatch(text, start, end):
        return False
    return bool(PHONE_BEFORE.search(text[max(0, start - 40) : start]) or PHONE_AFTER.match(text, end))


def entropy(text: str) -> float:
    """Bits a character, by the text's own frequencies."""
    return -sum(count / len(text) * math.log2(count / len(text)) for count in Counter(text).values())


def _is_random(text: str, start: int, end: int) -> bool:
    """Letters and digits both, no words: what a person would not name a thing."""
    value = text[start:end]
    has_digit, has_letter = re.search("[0-9]", value), re.search("[A-Za-z]", value)
    if not (has_digit and has_letter) or value.startswith(("$", "{", "%", "http", "/")):
        return False
    return entropy(value) >= (3.0 if len(value) < 16 else 3.3)


def _is_sk_token(text: str, start: int, end: int) -> bool:
    return bool(re.search("[A-Z]", text[start:end])) and _is_random(text, start + 3, end)


def _always(text: str, start: int, end: int) -> bool:
    return True


@functools.cache
def forms() -> tuple[Form, ...]:
    """All of them, in the order in which the first keeps what two of them claim."""
    rows: tuple[tuple[Kind, str, Check, tuple[int, int], Literal["number", "at", "secret"]], ...] = (
        ("secret", PRIVATE_KEY, _always, (0, 20_200), "secret"),
        ("secret", KNOWN_TOKEN, _always, (0, 10_100), "secret"),
        ("secret", SK_TOKEN, _is_sk_token, (0, 260), "secret"),
        ("secret", ASSIGNED, _is_random, (1, 230), "secret"),
        ("email", EMAIL, _is_mail_address, (66, 620), "at"),
        ("ip", IPV6, _is_public_ipv6, (2, 50), "number"),
        ("ip", IPV4, _is_public_ipv4, (4, 20), "number"),
        ("id_card", RESIDENT_ID, _is_resident_id, (2, 24), "number"),
        ("id_card", SOCIAL_SECURITY, _always, (4, 16), "number"),
        ("bank_card", BANK_CARD, _is_bank_card, (4, 44), "number"),
        ("phone", INTERNATIONAL, _is_international, (4, 100), "number"),
        ("phone", DIALLED, _has_digits(9, 17), (4, 50), "number"),
        ("phone", NORTH_AMERICAN, _always, (4, 32), "number"),
        ("phone", CHINESE_MOBILE, _is_no_term, (4, 24), "number"),
        ("phone", CHINESE_LANDLINE, _is_chinese_landline, (4, 30), "number"),
        ("phone", TRUNK, _is_trunk, (4, 32), "number"),
        ("phone", NAMED_NUMBER, _is_named_phone, (4, 70), "number"),
    )
    return tuple(Form(kind, re.compile(pattern), check, reach, seen) for kind, pattern, check, reach, seen in rows)
