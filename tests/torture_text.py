"""Texts made to break what looks at text: groups 4 (characters), 8 (expressions) and 13 (personal data) of the torture set."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class TextCase:
    """A text and what must come of it: `repaired` and `masked` are exact where given; `flags` and `kinds` are all there are."""

    group: int
    name: str
    text: str
    repaired: str | None = None
    flags: Sequence[str] = ()
    masked: str | None = None
    kinds: Sequence[str] = ()


def text_cases() -> list[TextCase]:
    """All cases; none is longer than about a megabyte."""
    return [*_characters(), *_expressions(), *_personal_data()]


def _characters() -> list[TextCase]:
    towers = "".join(letter + "\u0301\u0316\u0330\u0307" * 40 for letter in "zalgo")
    return [
        TextCase(4, "nul", "one\0two", "onetwo", ["nul"]),
        TextCase(4, "controls", "a\x01b\x1bc\x7fd\te", "abcd\te", ["control"]),
        TextCase(4, "escape sequence", "\x1b[31mred\x1b[0m", "red", ["control"]),
        TextCase(4, "bidi override", "user\u202egnp.exe\u202c", "usergnp.exe", ["bidi"]),
        TextCase(4, "bidi isolates and marks", "a\u2066b\u2069c\u200ed\u061ce", "abcde", ["bidi"]),
        TextCase(4, "zero width", "zero\u200bwidth\u2060word\ufeff", "zerowidthword", ["invisible"]),
        TextCase(4, "joiner between Latin letters", "a\u200db\u200cc", "abc", ["invisible"]),
        TextCase(4, "joiner in emoji stays", "👨\u200d👩\u200d👧 ❤\ufe0f\u200d🔥"),
        TextCase(4, "joiner in Persian stays", "می\u200cخواهم"),
        TextCase(4, "soft hyphen", "Donau\u00addampf", "Donaudampf", ["invisible"]),
        TextCase(4, "tags", "hi\U000e0001\U000e0068\U000e0069\U000e007f", "hi", ["invisible"]),
        TextCase(4, "noncharacters", "a\ufdd0b\uffffc\U0001fffed\U0010ffffe", "abcde", ["noncharacter"]),
        TextCase(4, "private use stays", "logo \uf8ff \U000f0001"),
        TextCase(4, "replacement characters stay", "bad \ufffd\ufffd bytes"),
        TextCase(4, "mark towers", towers, None, ["marks"]),
        TextCase(4, "three marks are a script's right", "x\u0323\u0302\u0301y"),
        TextCase(4, "lone surrogate", "a\ud800b", "a\ufffdb", ["surrogate"]),
        TextCase(4, "surrogate pair", "\ud83d\ude00", "😀", ["surrogate"]),
        TextCase(4, "byte order mark inside", "one\ufefftwo", "onetwo", ["invisible"]),
        TextCase(4, "line ends", "a\r\nb\rc\x85d\u2028e\u2029f\x0bg\x0ch", "a\nb\nc\nd\ne\nf\ng\nh"),
        TextCase(4, "ideographic indent stays", "\u3000第一段。\u3000\n\u3000第二段。", "\u3000第一段。\n\u3000第二段。"),
        TextCase(4, "million empty lines", "a" + "\n" * 1_000_000 + "b", "a\n\n\nb"),
        TextCase(4, "million spaces", "a" + " " * 1_000_000 + "b"),
        TextCase(4, "spaces before each line end", "a \t\u3000\n" * 5_000 + "b", "a\n" * 5_000 + "b"),
        TextCase(4, "mojibake", "cafÃ© â€œquotedâ€\x9d", "café “quoted”", ["mojibake"]),
        TextCase(4, "mojibake twice", "ÃƒÂ©tÃƒÂ©", "été", ["mojibake"]),
        TextCase(4, "Chinese mojibake", "ä¸\xadæ–‡å†\x85å®¹", "中文内容", ["mojibake"]),
        TextCase(4, "Windows quotes as controls", "it\x92s", "it’s", ["mojibake"]),
        TextCase(4, "no mojibake", "naïve “Übermut” – ça va « très » bien, ﬁn. ＡＢＣ，（全角）"),
        TextCase(4, "decomposed", "e\u0301", "é"),
    ]


def _expressions() -> list[TextCase]:
    return [
        TextCase(8, "a@a@a@", "a@" * 500_000),
        TextCase(8, "digits", "1" * 1_000_000),
        TextCase(8, "digits and spaces", "1 2 3 4 " * 60_000),
        TextCase(8, "points", "." * 1_000_000),
        TextCase(8, "digits and points", "1." * 200_000),
        TextCase(8, "one word", "a" * 1_000_000),
        TextCase(8, "mail without end", "a." * 200_000 + "@" + "b." * 200_000),
        TextCase(8, "tokens without end", "eyJ" * 300_000),
        TextCase(8, "keys without end", "-----BEGIN PRIVATE KEY-----" * 20_000),
        TextCase(8, "assignments", "password=" * 60_000),
        TextCase(8, "colons", "2001:" * 150_000),
        TextCase(8, "signs", "+(" * 300_000),
        TextCase(8, "mojibake without end", "Ã" * 50_000),
    ]


def _personal_data() -> list[TextCase]:
    key = "-----{} RSA PRIVATE KEY-----"
    return [
        TextCase(13, "mail", "write to jane.doe+news@mail.example.org.", None, (), "write to <EMAIL>.", ["email"]),
        TextCase(13, "mail in Han", "请联系zhang.san@example.com或致函", None, (), "请联系<EMAIL>或致函", ["email"]),
        TextCase(13, "mail with a full-width sign", "邮箱：li＠例.例 li_si＠a.cn。", None, (), "邮箱：li＠例.例 <EMAIL>。", ["email"]),
        TextCase(13, "mobile in Han", "电话13812345678联系", None, (), "电话<PHONE>联系", ["phone"]),
        TextCase(13, "mobile with country code", "+86 138 1234 5678", None, (), "<PHONE>", ["phone"]),
        TextCase(13, "mobile in full-width digits", "手机１３８１２３４５６７８。", None, (), "手机<PHONE>。", ["phone"]),
        TextCase(13, "landline", "座机010-59222799，传真（021）62345678", None, (), "座机<PHONE>，传真<PHONE>", ["phone", "phone"]),
        TextCase(13, "foreign phones", "+44 7700 900123 or (212) 555-0147", None, (), "<PHONE> or <PHONE>", ["phone", "phone"]),
        TextCase(13, "identity number", "身份证11010519491231002X号", None, (), "身份证<ID_CARD>号", ["id_card"]),
        TextCase(13, "identity number with a wrong check digit", "身份证110105194912310021号"),
        TextCase(13, "bank card", "卡号 4111 1111 1111 1111", None, (), "卡号 4111 1111 1111 1111"),
        TextCase(13, "bank card with digits that differ", "card 4539-1488-0343-6467.", None, (), "card <BANK_CARD>.", ["bank_card"]),
        TextCase(13, "bank card with a wrong check digit", "card 4539-1488-0343-6468."),
        TextCase(13, "public addresses", "93.184.216.34 or 2606:2800:220:1:248:1893:25c8:1946", None, (), "<IP> or <IP>", ["ip"] * 2),
        TextCase(13, "private addresses", "192.168.1.77, 10.0.0.200, 127.0.0.1, 169.254.77.1, 2001:db8::1, fe80::1, ::1"),
        TextCase(13, "version numbers", "version 93.184.216.34, v1.2.3.4, Chrome/91.0.4472.124, 1.2.3.4, section 3.1.40.2"),
        TextCase(13, "no phones", "1990-1995, 2019-12-31 23:59:59, ISBN 978-0-306-40615-7, 3.14159265358, 0x1234567890, $1234567.00"),
        TextCase(13, "service tokens", "AKIA" + "IOSFODNN7EXAMPLE ghp_" + "a1B2" * 9, None, (), "<SECRET> <SECRET>", ["secret"] * 2),
        TextCase(13, "password in code", 'password = "x8Kq-2mZ_94w"', None, (), 'password = "<SECRET>"', ["secret"]),
        TextCase(13, "no password", 'password = os.environ["DB_PASSWORD"]; token = next(tokens); secret: "changeme"'),
        TextCase(13, "private key", f"{key.format('BEGIN')}\nMIIB\nAAA=\n{key.format('END')}", None, (), "<SECRET>", ["secret"]),
    ]
