"""Languages: by script, by words, by the bundled model; mixed and short texts; program text."""

import socket
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.text.language import HAN, LATIN, LanguageConfig, count_scripts, detect_languages, english_words, spread_sample
from tests.torture_text import text_cases

RIGHTS = {
    "en": "All human beings are born free and equal in dignity and rights. They are endowed with reason and conscience.",
    "de": "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen begabt.",
    "fr": "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison.",
    "es": "Todos los seres humanos nacen libres e iguales en dignidad y derechos, dotados como están de razón y conciencia.",
    "it": "Tutti gli esseri umani nascono liberi ed eguali in dignità e diritti. Essi sono dotati di ragione e di coscienza.",
    "nl": "Alle mensen worden vrij en gelijk in waardigheid en rechten geboren. Zij zijn begiftigd met verstand en geweten.",
    "sv": "Alla människor är födda fria och lika i värde och rättigheter. De har utrustats med förnuft och samvete.",
    "pt": "Todos os seres humanos nascem livres e iguais em dignidade e em direitos. Dotados de razão e de consciência.",
    "pl": "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw.",
    "vi": "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền lợi.",
    "ru": "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и совестью.",
    "uk": "Всі люди народжуються вільними і рівними у своїй гідності та правах. Вони наділені розумом і совістю.",
    "ja": "すべての人間は、生れながらにして自由であり、かつ、尊厳と権利とについて平等である。",
    "ko": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
    "ar": "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق. وقد وهبوا عقلاً وضميرًا.",
    "fa": "تمام افراد بشر آزاد به دنیا می‌آیند و از لحاظ حیثیت و حقوق با هم برابرند.",
    "hi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।",
    "el": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα.",
    "he": "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם.",
    "th": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ",
    "zh": "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。",
}
PROGRAM = '''import os
from pathlib import Path


class Reader:
    """Reads a file and returns what it holds to the caller."""

    def __init__(self, path):
        self.path = Path(path)

    def read(self):
        with open(self.path) as file:
            return file.read()


def main():
    reader = Reader(os.environ["FILE"])
    print(reader.read())
'''


def language_of(text: str) -> str:
    return detect_languages([text])[0].language


@pytest.mark.parametrize("language", RIGHTS)
def test_a_sentence_is_told_in_each_language(language: str):
    assert language_of(RIGHTS[language]) == language


@pytest.mark.parametrize("language", RIGHTS)
def test_a_long_text_is_told_in_each_language(language: str):
    assert language_of(f"{RIGHTS[language]}\n" * 200) == language


@pytest.mark.parametrize("language", sorted(set(RIGHTS) - {"en"}))
def test_no_other_language_passes_as_english_by_its_words(language: str):
    share, _ = english_words(RIGHTS[language])
    assert share < 0.1


@pytest.mark.parametrize(
    "text",
    [
        "ᎤᎵᏍᏗ ᎠᏂᏴᏫ ᎤᎾᎵᏍᏓᏴᏗ ᎤᎾᏛᏁᎸ ᎠᎴ ᏧᎾᏓᏤᎵᏛ ᎤᏂᏱᎸᏒ",  # Cherokee: the model is sure that it is English
        "ߒߞߏ ߦߋ߫ ߛߓߍߟߌ ߘߏ߫ ߟߋ߬ ߘߌ߫ ߞߊ߬ ߡߊ߲߬ߘߋ߲ ߞߊ߲ ߠߎ߬ ߛߓߍ߫",  # N'Ko: Korean
        "ⲡⲓⲣⲱⲙⲓ ⲛⲧⲉ ⲫⲛⲟⲩϯ ⲁϥⲓ ⲉⲃⲟⲗ ϧⲉⲛ ⲡⲓⲕⲟⲥⲙⲟⲥ",  # Coptic: Japanese
        "𝓽𝓱𝓮 𝓶𝓲𝓵𝓵 𝓫𝔂 𝓽𝓱𝓮 𝓻𝓲𝓿𝓮𝓻 𝓽𝓾𝓻𝓷𝓼 𝓪𝓵𝓵 𝓭𝓪𝔂 𝓵𝓸𝓷𝓰",  # signs for mathematics: Albanian
        "ⴰⵣⵓⵍ ⴼⵍⵍⴰⵡⵏ ⵎⴰⵏⵣⴰⴽⵉⵏ ⵜⴳⴰⵎ ⵜⴰⵎⴰⵣⵉⵖⵜ ⵜⵓⵜⵍⴰⵢⵜ ⵏⵏⵖ",
        "ܐܢܐ ܒܝܬܐ ܕܡܠܟܐ ܘܟܬܒܐ ܕܐܒܗܬܐ ܩܕܡܝܐ ܐܝܬܝܗܘܢ ܒܡܕܝܢܬܐ",
    ],
)
def test_a_text_gets_no_language_that_is_not_written_in_its_script(text: str):
    assert language_of(text) == "und"


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("მდინარის პირას ძველი წისქვილი დგას და დღემდე ბრუნავს", "ka"),
        ("Գետի ափին կանգնած է հին ջրաղացը և այսօր էլ պտտվում է", "hy"),
        ("ወንዙ ዳር ያለው አሮጌ ወፍጮ እስከ ዛሬ ድረስ ይሠራል", "am"),
        ("ஆற்றங்கரையில் உள்ள பழைய ஆலை இன்றும் சுழல்கிறது", "ta"),
        ("নদীর ধারে পুরোনো কলটি আজও ঘোরে এবং চাল ভাঙে", "bn"),
        ("រោងម៉ាស៊ីនចាស់ក្បែរទន្លេនៅតែវិលរាល់ថ្ងៃ", "km"),
        ("မြစ်ကမ်းနားရှိ စက်ဟောင်းသည် ယနေ့တိုင် လည်နေသည်", "my"),
        ("ཆུ་འགྲམ་གྱི་རང་འཐག་རྙིང་པ་དེ་ད་ལྟ་ཡང་འཁོར་གྱི་ཡོད།", "bo"),
        ("ކޯރު ކައިރީގައި ހުންނަ މުސްކުޅި މޮޅު އަދިވެސް އެނބުރެއެވެ", "dv"),
        ("Стара воденица поред реке и данас се окреће целог дана", "sr"),
        ("Stara vodenica pored reke i danas se okreće celog dana", "sr"),
        ("Өзен жағасындағы ескі диірмен әлі күнге дейін айналып тұр", "kk"),
        ("My brother uses it every day, see below.\t我用Twitter。", "en"),
    ],
)
def test_languages_keep_each_script_they_are_written_in(text: str, language: str):
    assert language_of(text) == language


def test_classical_and_traditional_chinese_are_zh():
    assert [d.language for d in detect_languages(["學而時習之，不亦說乎？", "人人生而自由，在尊嚴和權利上一律平等。"])] == ["zh", "zh"]


def test_chinese_that_quotes_a_little_japanese_is_zh():
    assert language_of(RIGHTS["zh"] * 3 + "すべて") == "zh"


def test_english_front_matter_does_not_hide_a_chinese_book():
    assert language_of("The Project. This book is free for all and you may copy it.\n" * 20 + RIGHTS["zh"] * 100) == "zh"


def test_a_text_in_two_scripts_is_mixed():
    mixed, plain = detect_languages([RIGHTS["zh"] + RIGHTS["en"], RIGHTS["zh"] + " (UNO)"])
    assert mixed.is_mixed
    assert not plain.is_mixed


def test_japanese_in_its_three_scripts_is_not_mixed():
    assert not detect_languages([RIGHTS["ja"]])[0].is_mixed


@pytest.mark.parametrize("text", ["", " \n", "12345", "...!?", "OK", "😀😀😀", "x" * 19, "www.example.org"])
def test_too_little_text_is_und(text: str):
    assert language_of(text) == "und"


def test_program_text_is_code():
    assert language_of(PROGRAM) == "code"


def test_program_text_is_left_to_its_declared_language_when_asked():
    assert detect_languages([PROGRAM], config=LanguageConfig(code=False))[0].language != "code"


def test_prose_around_a_program_is_prose():
    assert language_of(f"Here is how you read a file, and what it returns to you:\n\n```python\n{PROGRAM}```\n") == "en"
    assert language_of(f"下面是读取文件的程序，请先安装所需的环境。\n\n```python\n{PROGRAM}```\n") == "zh"


def test_given_script_counts_are_used():
    texts = [RIGHTS["en"], RIGHTS["zh"]]
    counts = count_scripts(texts)
    assert counts[0, LATIN] == sum(map(str.isalpha, texts[0]))
    assert counts[1, HAN] == sum(map(str.isalpha, texts[1]))
    assert detect_languages(texts, counts) == detect_languages(texts)


def test_nul_and_line_ends_do_not_trouble_the_model():
    assert language_of(RIGHTS["de"].replace(" ", "\n", 4).replace(" ", "\0", 2)) == "de"


def test_the_model_needs_no_network_and_writes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert language_of(RIGHTS["de"]) == "de"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", [*(case.text for case in text_cases() if case.group == 8), "a == " * 200_000, "a@" * 999])
def test_any_text_takes_linear_time(text: str):
    start = time.process_time()
    detect_languages([text, text + "\u4e00"])
    assert time.process_time() - start < 5


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(max_size=80), max_size=4))
def test_any_text_gets_one_result_of_its_own(texts: list[str]):
    together = detect_languages(texts)
    assert together == [detect_languages([text])[0] for text in texts]
    assert all(0 <= found.score <= 1.0001 for found in together)


@given(st.text(max_size=300), st.integers(4, 100), st.integers(1, 4))
def test_a_sample_is_never_longer_than_asked(text: str, chars: int, runs: int):
    assert len(spread_sample(text, chars, runs)) <= max(chars, 1)
