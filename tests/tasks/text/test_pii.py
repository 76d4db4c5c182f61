"""Personal data: found, checked, masked; nothing else touched; time linear."""

import time

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tasks.text.pii import PLACEHOLDERS, PiiConfig, PiiMasker, find_pii, find_pii_plainly
from tasks.text.pii_patterns import entropy, has_luhn_checksum, has_resident_checksum
from tests.torture_text import TextCase, text_cases

MASKER = PiiMasker(PiiConfig())
STRESS = [case for case in text_cases() if case.group == 8]
DATA = [case for case in text_cases() if case.group == 13]
PARTS = [
    "a.b@example.org", "＠", "@", "13812345678", "１３８", "+86 ", "+1 (212) 555-0147", "0", "1", "4539148803436467",
    "11010519491231002X",
    "93.184.216.34", "2606:2800:220:1::25c8", ".", "-", " ", "(", ")", "/", ":", "x", "中", "，", "\n", "tel ",
    "password=", '"x8Kq2mZ94wT7uy31"',
    "AKIAIOSFODNN7EXAMPLE", "eyJhbGciOi.eyJzdWIiOi.SflKxwRJSM", "sk-", "078-05-1120", "ext 12", "-----BEGIN PRIVATE KEY-----",
    "-----END PRIVATE KEY-----", "2019", "_", "$", "é",
]  # fmt: skip
TEXTS = st.lists(st.one_of(st.sampled_from(PARTS), st.text(max_size=6)), max_size=14).map("".join)


@pytest.mark.parametrize("case", DATA, ids=lambda case: case.name)
def test_each_form_is_masked_and_its_neighbours_stay(case: TextCase):
    assert [match.kind for match in find_pii(case.text)] == list(case.kinds)
    assert MASKER.apply(case.text).text == (case.masked or case.text)


@settings(max_examples=600, deadline=None)
@given(TEXTS)
def test_the_fast_search_finds_what_the_plain_one_finds(text: str):
    assert find_pii(text) == find_pii_plainly(text)


@settings(max_examples=300, deadline=None)
@given(TEXTS)
def test_masking_twice_changes_nothing(text: str):
    once = MASKER.apply(text).text
    assert MASKER.apply(once) == (once, {}, ())


@settings(max_examples=300, deadline=None)
@given(TEXTS)
def test_nothing_outside_the_matches_changes(text: str):
    parts, last = [], 0
    for kind, start, end in find_pii(text):
        parts += [text[last:start], PLACEHOLDERS[kind]]
        last = end
    expected = "".join(parts) + text[last:]
    assume(not find_pii(expected))  # a mask may set free what stood against the match
    assert MASKER.apply(text).text == expected


@pytest.mark.parametrize("case", STRESS, ids=lambda case: case.name)
def test_stress_takes_linear_time(case: TextCase):
    start = time.process_time()
    MASKER.apply(case.text)
    assert time.process_time() - start < 10


@pytest.mark.parametrize(
    ("number", "valid"),
    [
        ("11010519491231002X", True),  # the example of GB 11643
        ("11010519491231002x", True),
        ("440524188001010014", True),  # the other one
        ("440524188001010015", False),
        ("110105194912310021", False),
    ],
)
def test_resident_checksum(number: str, valid: bool):
    assert has_resident_checksum(number) is valid


@pytest.mark.parametrize(
    ("number", "valid"),
    [
        ("79927398713", True),
        ("79927398710", False),
        ("4539148803436467", True),
        ("0", True),
        ("18", True),
        ("17", False),
    ],
)
def test_luhn_checksum(number: str, valid: bool):
    assert has_luhn_checksum(number) is valid


def test_an_identity_number_of_an_impossible_day_is_none():
    base = "11010519490230"  # 30 February
    for rest in range(1000):
        for check in "0123456789X":
            number = f"{base}{rest:03d}{check}"
            if has_resident_checksum(number):
                assert all(match.kind != "id_card" for match in find_pii(number))
                return
    pytest.fail("no number has that checksum")


@pytest.mark.parametrize(
    "text",
    [
        "+86 138-1234-5678", "86-13812345678", "138 1234 5678", "Tel: 555 0147 22", "+1-201-555-0123", "+46 (0)8 928 571 38",
    "03.93.92.16.85",
        "0494 92 82 32", "345-899-3560x4587", "001-518-640-0854", "0086 138 1234 5678", "400-700-2000", "Call 9498777106 now",
    "+49 30 901820",
    ],
)  # fmt: skip
def test_phones_in_many_forms(text: str):
    assert "phone" in [match.kind for match in find_pii(text)]


@pytest.mark.parametrize(
    "text",
    [
        "1000000000", "12345678901", "0.13812345678", "id_13812345678", "a13812345678", "138123456789", "2019 2020 2021",
    "10.1000/xyz.123456789",
        "+4294967296", "+000000120", "1609459200000", "PEP 3107, 3129 and 3131", "0001 0002 0003", "192 168 100 200",
    "called(-9876543)",
        "12:34:56.789012", "1,234,567,890", "ISO 8601:2004-12-01", "1.2.3.4.5.6", "[1, 2, 3, 4, 5, 6, 7, 8]", "999-99-9999",
    "arr[::2]", "x @ y.T",
        "@property", "user@localhost", "a@b.T(x)", "git@github.com:org/repo.git", "std::vector<int>", "12:30:45:10",
    "token = next(tokens)",
        "sk-learn-is-not-a-secret-token-name", "4111111111111112",
    ],
)  # fmt: skip
def test_ordinary_numbers_and_code_are_nothing(text: str):
    assert find_pii(text) == []


@pytest.mark.parametrize(
    "code",
    [
        "y = x@self.weight + self.bias", "return q@k.mT / 8", "z = a@b.data", "return z@w.grad", "h = hidden@self.net", "out = x@w.name",
        "@functools.lru_cache", "@app.route", " * @param user.name", "o = a@b.T.data", "attn = scores@values.map", "loss += y@np.data",
        "git clone git@gitlab.example.com:org/repo.git", "scp a.txt deploy@host.example.com:/var/www/", "img@2x.ai, img@3x.zip",
        "npm i lodash@4.17.21 left@1.2.3-beta.dev pkg@v1.2.3.dev", "this@Outer.name", "x@y.png, w@weights.grad, a@b.shape",
        "opencv-python==4.10.0.84", '"version": "4.10.0.84"', "<version>4.10.0.84</version>", "AssemblyVersion(\"1.0.0.93\")", "v4.10.0.84",
        "ObjectIdentifier('1.3.101.113')", "[+3.14159265 -0.5]", "array([+7.1234567e-01, +44.1234567])", "4.539148803436467e+15",
        "4539148803436467.0", "0.13812345678", "tensor([[-1.3812345678, 0.2]])", "15931640625*p*q**6", "2*13812345678 + 1",
    ],
)  # fmt: skip
def test_code_and_figures_are_left_alone(code: str):
    assert find_pii(code) == []


@pytest.mark.parametrize(
    "text",
    [
        "jane@self.com", "Mail: anna@beta.data", "email = jo@hp.id", 'x = "jo.doe@firm.id"', "JOHN@FIRM.COM", "John@Firm.Com", "jo@x.co.uk",
        "user: root@intra.local", "jo@firm.museum", "jane@example.com:hunter2", "jo@firm.io, jo@firm.dev", "(jo@firm.net)",
    ],
)  # fmt: skip
def test_addresses_are_found_beside_what_looks_like_code(text: str):
    assert [match.kind for match in find_pii(text)] == ["email"] * text.count("@")


def test_a_decimal_is_a_phone_number_where_it_is_said_to_be_one():
    assert [match.kind for match in find_pii("Registrant Phone: +1.4805058800")] == ["phone"]
    assert find_pii("Value: +1.4805058800") == []


def test_a_mask_depends_on_its_match_alone():
    one, two = "mail a@example.org", "13912345678 "
    assert MASKER.apply(f"{two}{one}").text == f"<PHONE> {MASKER.apply(one).text}"


def test_kinds_are_kept_masked_or_drop_the_document():
    masker = PiiMasker(PiiConfig(email="keep", secret="drop"))
    masked = masker.apply('a@example.org, 13912345678, api_key = "q8Zk2mXw94TbLs7"')
    assert masked.text == 'a@example.org, <PHONE>, api_key = "<SECRET>"'
    assert masked.counts == {"email": 1, "phone": 1, "secret": 1}
    assert masked.drops == ("secret",)


def test_every_digit_script_position_is_a_character_not_a_byte():
    text = "😀中文 １３８１２３４５６７８ é a@example.org"
    assert [text[match.start : match.end] for match in find_pii(text)] == ["１３８１２３４５６７８", "a@example.org"]


def test_random_text_has_more_entropy_than_a_word():
    assert entropy("aaaaaaaa") == 0
    assert entropy("q8Zk2mXw") == 3
