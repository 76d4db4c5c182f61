"""Charsets: what was written comes back whatever it was written in, and nothing breaks the decoder."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from webencodings.labels import LABELS

from tasks.reading.encodings import Decoded, charset_name, decode, has_surrogates, known_codec, mend_surrogates

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

ENGLISH = "It was “the best” of times—it was the worst of times… He said ‘no’ and paid £5 for coffee at the café. "
CHINESE = "甄士隐梦幻识通灵，贾雨村风尘怀闺秀。列位看官：你道此书从何而来？说起根由虽近荒唐，细按则深有趣味。"
TRADITIONAL = "話說天下大勢，分久必合，合久必分。周末七國分爭，并入於秦。及秦滅之後，楚、漢分爭，又并入於漢。"
JAPANESE = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。何でも薄暗いじめじめした所で泣いていた。"
KOREAN = "모든 국민은 인간으로서의 존엄과 가치를 가지며, 행복을 추구할 권리를 가진다. 국가는 이를 보장할 의무를 진다."
FRENCH = "Il était une fois une petite fille de village, la plus éclairée qu’on eût su voir : sa mère en était folle."
GERMAN = "Die Würde des Menschen ist unantastbar. Sie zu achten und zu schützen ist Verpflichtung aller Gewalt. Größe."
RUSSIAN = "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему."
WRITTEN = [
    (ENGLISH, "cp1252"),
    (ENGLISH, "utf-16-le"),
    (ENGLISH, "utf-16-be"),
    (ENGLISH, "utf-32-le"),
    (ENGLISH, "utf-8"),
    (CHINESE, "gb18030"),
    (CHINESE, "utf-16-le"),
    (CHINESE, "utf-16-be"),
    (CHINESE, "utf-32-be"),
    (CHINESE, "utf-8"),
    (TRADITIONAL, "big5"),
    (TRADITIONAL, "gb18030"),
    (JAPANESE, "cp932"),
    (JAPANESE, "euc_jp"),
    (KOREAN, "cp949"),
    (JAPANESE, "iso2022_jp"),
    (FRENCH, "cp1252"),
    (GERMAN, "cp1252"),
    (RUSSIAN, "cp1251"),
    (RUSSIAN, "utf-8"),
]


@pytest.mark.parametrize(("text", "codec"), WRITTEN)
def test_text_comes_back_whatever_it_was_written_in(text: str, codec: str):
    found = decode(text.encode(codec))
    assert (found.text, found.is_text, found.repairs) == (text, True, ())


@given(st.sampled_from([pair for pair in WRITTEN if pair[1] not in ("cp1252", "euc_jp", "iso2022_jp")]), st.data())
def test_a_sentence_of_it_is_enough(pair: tuple[str, str], data: st.DataObject):
    text, codec = pair
    start = data.draw(st.integers(0, len(text) - 32))
    part = text[start : start + data.draw(st.integers(32, len(text)))]
    assert decode(part.encode(codec)).text == part


@given(st.sampled_from([CHINESE, ENGLISH, JAPANESE]), st.sampled_from(["utf-8-sig", "utf-16", "utf-32"]))
def test_a_byte_order_mark_is_believed_and_left_out(text: str, codec: str):
    assert decode(text.encode(codec), "windows-1252").text == text


@pytest.mark.parametrize(("text", "codec"), WRITTEN)
def test_a_true_declaration_is_taken_and_a_false_one_overruled(text: str, codec: str):
    assert decode(text.encode(codec), codec) == decode(text.encode(codec), codec.upper())
    assert decode(text.encode(codec), codec).text == text
    false = "koi8-r" if codec != "cp1251" else "shift_jis"
    found = decode(text.encode(codec), "utf-8" if codec != "utf-8" else "big5")
    assert found.text == text
    assert text.isascii() or found.repairs == ("wrong_charset",)
    assert known_codec(false) is not None


@pytest.mark.parametrize(
    ("label", "codec"),
    [
        ("GB2312", "gb18030"),
        ("x-gbk", "gb18030"),
        ("'UTF8'", "utf-8"),
        ("ISO-8859-1", "cp1252"),
        ("none", None),
        ("hex", None),
    ],
)
def test_labels_stand_for_what_they_mean_in_practice(label: str, codec: str | None):
    assert known_codec(label) == codec


POLISH = "Młyn stoi nad rzeką, a każdej wiosny woda sięga trzeciego stopnia, gdzie dziadek wyciął znak. Źdźbło, gęś i żółw śpią."
GREEK = "Ο μύλος στέκεται δίπλα στο ποτάμι και κάθε άνοιξη το νερό ανεβαίνει ως το τρίτο σκαλοπάτι, όπου ο παππούς χάραξε ένα σημάδι."
HEBREW = "הטחנה עומדת ליד הנהר ובכל אביב המים עולים עד המדרגה השלישית, שבה חרת סבא סימן."
ARABIC = "تقف الطاحونة بجانب النهر وفي كل ربيع يرتفع الماء حتى الدرجة الثالثة حيث حفر الجد علامة."
THAI = "โรงสีตั้งอยู่ริมแม่น้ำ ทุกฤดูใบไม้ผลิน้ำขึ้นถึงขั้นที่สาม ที่ปู่ของเขาทำเครื่องหมายไว้"
TURKISH = "Değirmen ırmağın yanında durur ve her ilkbaharda su, büyükbabanın işaret koyduğu üçüncü basamağa kadar yükselir; şüphesiz."
LITHUANIAN = "Malūnas stovi prie upės, ir kiekvieną pavasarį vanduo pakyla iki trečio laiptelio, kur senelis išpjovė ženklą. Žąsys čiauška."
UKRAINIAN = "Млин стоїть біля річки, і щовесни вода піднімається до третьої сходинки, де дід вирізав знак. Її ґанок є ще цілий."
UNDECLARED = [
    (RUSSIAN, "koi8-r"),
    (RUSSIAN, "iso8859-5"),
    (RUSSIAN, "cp866"),
    (UKRAINIAN, "koi8-u"),
    (GREEK, "iso8859-7"),
    (GREEK, "cp1253"),
    (HEBREW, "cp1255"),
    (HEBREW, "iso8859-8"),
    (ARABIC, "cp1256"),
    (ARABIC, "iso8859-6"),
    (THAI, "cp874"),
    (TURKISH, "cp1254"),
    (POLISH, "cp1250"),
    (POLISH, "iso8859-2"),
    (LITHUANIAN, "cp1257"),
]


@pytest.mark.parametrize(("text", "codec"), UNDECLARED)
def test_text_in_a_legacy_charset_comes_back_without_a_declaration(text: str, codec: str):
    found = decode(text.encode(codec))
    assert (found.text, found.fault) == (text, None)


@pytest.mark.parametrize(("text", "codec"), UNDECLARED)
def test_another_charset_of_the_web_that_is_declared_is_overruled(text: str, codec: str):
    found = decode(text.encode(codec), "iso-8859-1")
    assert (found.text, found.repairs) == (text, ("wrong_charset",))


@pytest.mark.parametrize(
    ("word", "codec"),
    [("лодки", "cp1251"), ("лодки", "koi8-r"), ("λόγος", "iso8859-7"), ("סירות", "cp1255"), ("قوارب", "cp1256"), ("böats", "cp1252")],
)
@pytest.mark.parametrize("times", [1, 6])
def test_a_foreign_word_in_english_is_no_row_of_accents(word: str, codec: str, times: int):
    text = f"The boats that they call {word} are long and narrow, and people have used them for many years.\n" * times
    assert decode(text.encode(codec), codec) == Decoded(text, charset_name(codec))
    assert decode(text.encode(codec)).text == text


GERMAN = "Die Mühle steht am Fluß, und jedes Frühjahr steigt das Wasser bis zur dritten Stufe; größer wird es später im März."


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        (GERMAN, "cp437"),
        (GERMAN, "cp850"),
        (GERMAN, "mac-roman"),
        (GREEK, "cp737"),
        (GREEK, "mac-greek"),
        (TURKISH, "cp857"),
        (TURKISH, "mac-turkish"),
        (LITHUANIAN, "cp775"),
        (POLISH, "cp852"),
    ],
)
def test_text_of_dos_and_mac_comes_back_too(text: str, codec: str):
    found = decode(text.encode(codec))
    assert (found.text, found.fault) == (text, None)


def test_a_reading_with_signs_inside_its_words_is_not_taken():
    raw = "Sie h„tte die T”pfe f„rben k”nnen.".encode("cp1252")  # as windows-1252 has what was written in cp850
    assert decode(raw).text == raw.decode("cp850") == "Sie hätte die Töpfe färben können."


def test_a_path_of_pages_parted_by_guillemets_is_text():
    text = "Home»News»Sport»Results of the old mill by the river"
    assert decode(text.encode("cp1252")).text == text


def test_blanks_are_no_daggers_of_utf16():
    text = "Une fiche :" + " " * 60 + "l'été à la mairie." + " " * 62
    assert decode(text.encode("cp1252")).text == text


def test_bytes_that_read_as_well_in_two_charsets_are_set_aside():
    assert decode("Napiši".encode("iso8859-2") * 9).fault in ("unknown_charset", None)
    found = decode(bytes(range(0xA1, 0xFF, 3)) * 5)
    assert found.fault is not None


@pytest.mark.parametrize("label", sorted(label for label, name in LABELS.items() if name != "replacement"))
def test_every_label_of_the_web_is_known(label: str):
    assert known_codec(label) is not None


@given(st.binary(max_size=300), st.sampled_from([None, "utf-8", "gb18030", "big5", "utf-16", "latin-1", "no such"]))
def test_any_bytes_give_text_that_can_be_stored(raw: bytes, declared: str | None):
    found = decode(raw, declared)
    found.text.encode()
    assert found == decode(raw, declared)


@given(st.text(st.characters(codec="utf-8"), max_size=200))
def test_utf8_is_never_changed(text: str):
    found = decode(text.encode())
    assert found.text in (text, text.removeprefix("\ufeff")) or "\0" in text


@given(st.text(st.characters(), max_size=50))
def test_halves_of_surrogates_are_joined_or_replaced(text: str):
    mended = mend_surrogates(text)
    assert not has_surrogates(mended)
    assert has_surrogates(text) or mended == text


def test_lines_in_a_second_charset_are_read_in_it():
    found = decode(f"{CHINESE}\n".encode() + CHINESE.encode("gb18030") + b"\nplain\n")
    assert found.text == f"{CHINESE}\n{CHINESE}\nplain\n"
    assert found.repairs == ("mixed_encodings",)


def test_a_few_unreadable_bytes_are_replaced_and_many_are_no_text():
    found = decode(CHINESE.encode() + b"\xff" + CHINESE.encode())
    assert (found.text, found.repairs, found.is_text) == (f"{CHINESE}\ufffd{CHINESE}", ("replaced",), True)
    assert not decode(bytes(range(256)) * 4).is_text
