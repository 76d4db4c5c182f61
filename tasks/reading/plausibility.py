"""Text plausibility: how much a text looks like text, the judge among charsets under which the same bytes can be read.

Frequent Han characters, kana, Hangul and accented letters inside words speak for a reading; rare characters, private use and
controls against it.
"""

import functools
import unicodedata

import numpy as np
import numpy.typing as npt

FREQUENT_HAN = (  # the most frequent characters of running text, simplified and traditional: about half of it
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事"
    "成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把机十民第公此"
    "已工使情明性知全三又关点正业外将两高间由问很最重并物手应战向头文体政美相见被利什二等产或新己制身果加西斯月话合回特代"
    "内信表化老给世位次度门任常先海通教儿原东声提立及比员解水名真论处走义各入几口认条平系气题活尔更别打女变四神总何电数安"
    "少报才结反受目太量再感建务做接必场件计管期市直德资命山金指克许统区保至队形社便空决治展马科司五基眼书非则听白却界达光"
    "放强即像难且权思王象完设式色路记南品住告类求据程北边死张该交规万取拉格望觉术领共确传师观清今切院让识候带导争运笑飞"
    "這個們來為國說時會對過發後經麼學現當沒動還進樣從實軍無與長機業將兩間問應戰頭體見話關點產與給員處義幾條氣題爾變總電數"
    "報結務場計資許統區隊決馬書則聽卻達強難權設記類據邊張該規萬覺術領確傳師觀讓識帶導爭運飛兒東聲論門愛親語請誰"
    "曰其乃矣耶哉吾汝余兮彼焉者也食言曾卿公子日本人今時分行見来会学生国年"
)
FREQUENT_HANGUL = (
    "이다는을의에가고하지로한를은도서사기인리나어자대시그들것해수아있라정일부만제전여보스구상장주원조안성니요게과면으년습와"
    "적까오내용우저말신거비할동선세때였공모생국소연통민유경던"
)
RARE_LATIN = "ÿþðÞÐªºµ"  # bytes that mostly mean something else
PUNCTUATION = "、。，．：；？！“”‘’「」『』《》〈〉（）【】—…·～〔〕"

_PLAIN, _ASCII_LETTER, _LATIN, _CYRILLIC, _WIDE_LETTER, _OTHER = range(6)


def plausibility(text: str) -> float:
    """Mean weight of the characters that are not ASCII, in [-3, 1]; 0.5 for plain ASCII without controls."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    weights, flags = _tables()
    clipped = np.minimum(codes, 0x2FFFF)
    weight = weights[clipped].astype(np.float32)
    kind = flags[clipped]
    ascii_letter = kind == _ASCII_LETTER
    before, behind = np.zeros((2, len(codes)), dtype=np.bool_)
    before[1:], behind[:-1] = ascii_letter[:-1], ascii_letter[1:]
    weight[(kind == _LATIN) & (before | behind)] = 0.7
    cyrillic = kind == _CYRILLIC
    alone = cyrillic.copy()
    alone[1:] &= ~cyrillic[:-1]
    alone[:-1] &= ~cyrillic[1:]
    weight[alone | (cyrillic & (before | behind))] = -0.6
    letter = ascii_letter | (kind == _LATIN)
    before[1:], behind[:-1] = letter[:-1], letter[1:]
    weight[(kind == _WIDE_LETTER) & before & behind] = -0.6  # a rare thing: Han between Latin letters
    counted = (kind != _PLAIN) & ~ascii_letter
    return float(weight[counted].mean()) if counted.any() else 0.5


@functools.cache
def _tables() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Weight and kind of each character of the first three planes."""
    weights = np.full(0x30000, -0.6, dtype=np.float32)
    flags = np.full(0x30000, _OTHER, dtype=np.uint8)
    for low, high, weight, flag in _RANGES:
        weights[low : high + 1] = weight
        flags[low : high + 1] = flag
    for codec, rows, weight in (("gb2312", (0xB0, 0xD7), 0.2), ("big5", (0xA4, 0xC6), 0.15), ("euc_jp", (0xB0, 0xCF), 0.1)):
        for high in range(rows[0], rows[1] + 1):
            for low in range(0x40, 0xFF):
                text = bytes((high, low)).decode(codec, "ignore")
                if len(text) == 1 and weights[ord(text)] < weight:
                    weights[ord(text)] = weight
    for character in FREQUENT_HAN + FREQUENT_HANGUL + PUNCTUATION:
        weights[ord(character)] = 1.0
    for code in range(0x250):
        if code >= 0x80 and unicodedata.category(chr(code)).startswith("L"):
            flags[code] = _OTHER if chr(code) in RARE_LATIN else _LATIN
    for character in "–—‘’“”…€«»°§·£©®™•¿¡":
        weights[ord(character)] = max(weights[ord(character)], 0.5)
    for character in "\xa0\xad":
        weights[ord(character)] = 0.2
    for code in (*range(0, 9), *range(14, 27), 11, 28, 29, 30, 31, 0x7F, *range(0x80, 0xA0)):
        weights[code], flags[code] = -3.0, _OTHER
    weights[0xFFFD] = -3.0
    weights[0x2020] = -0.6  # a dagger; two blanks are one, read as UTF-16
    return weights, flags


_RANGES = (  # first, last, weight, kind; later ones win
    (0x00, 0x7F, 0.0, _PLAIN),
    (0x41, 0x5A, 0.0, _ASCII_LETTER),
    (0x61, 0x7A, 0.0, _ASCII_LETTER),
    (0xA0, 0x24F, -0.5, _OTHER),
    (0x370, 0x3FF, 0.2, _OTHER),
    (0x400, 0x40F, -0.2, _CYRILLIC),
    (0x410, 0x42F, 0.1, _CYRILLIC),
    (0x430, 0x44F, 0.45, _CYRILLIC),
    (0x450, 0x52F, -0.2, _CYRILLIC),
    (0x590, 0x6FF, 0.4, _OTHER),
    (0x900, 0xE7F, 0.3, _OTHER),
    (0x2010, 0x203B, 0.3, _OTHER),
    (0x2500, 0x25FF, -0.3, _OTHER),
    (0x3000, 0x3000, 0.8, _OTHER),
    (0x3001, 0x3020, 0.5, _OTHER),
    (0x3041, 0x3096, 0.85, _WIDE_LETTER),
    (0x30A1, 0x30FE, 0.6, _WIDE_LETTER),
    (0x3400, 0x4DBF, -0.8, _WIDE_LETTER),
    (0x4E00, 0x9FFF, -0.5, _WIDE_LETTER),
    (0xAC00, 0xD7A3, 0.1, _WIDE_LETTER),
    (0xE000, 0xF8FF, -2.0, _OTHER),
    (0xFF01, 0xFF0F, 0.6, _OTHER),
    (0xFF10, 0xFF19, 0.6, _OTHER),
    (0xFF1A, 0xFF20, 0.6, _OTHER),
    (0xFF21, 0xFF5E, 0.2, _OTHER),
    (0xFF61, 0xFF9F, -0.5, _WIDE_LETTER),
    (0x1F300, 0x1FAFF, 0.5, _OTHER),
    (0x20000, 0x2FFFF, -1.0, _WIDE_LETTER),
)
