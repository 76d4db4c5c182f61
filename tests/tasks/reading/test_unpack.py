"""Unpacking: all that was packed comes out, whatever is cut, joined or damaged around it, and each loss is one fault."""

import bz2
import gzip
import io
import lzma
import random
from collections.abc import Callable

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from tasks.reading.faults import Fault
from tasks.reading.unpack import OUTPUT_BYTES, unpacked

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda raw: zstd.compress(raw, options={zstd.CompressionParameter.checksum_flag: 1}),
}
formats = st.sampled_from(sorted(PACKERS))


def unpack(raw: bytes) -> tuple[bytes, list[Fault]]:
    chunks = list(unpacked(io.BytesIO(raw)))
    assert all(len(chunk) <= OUTPUT_BYTES for chunk in chunks if isinstance(chunk, bytes))
    data = b"".join(chunk for chunk in chunks if isinstance(chunk, bytes))
    return data, [chunk for chunk in chunks if isinstance(chunk, Fault)]


def noise(size: int) -> bytes:
    return random.Random(5).randbytes(size)


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=4), formats)
def test_streams_one_behind_the_other_give_all_their_bytes(parts: list[bytes], form: str):
    parts = [b"text " + part for part in parts]
    assert unpack(b"".join(map(PACKERS[form], parts))) == (b"".join(parts), [])


@given(st.binary(min_size=1, max_size=2_000), formats, st.floats(0, 1, exclude_max=True))
def test_a_stream_that_is_cut_gives_a_prefix_and_one_fault(raw: bytes, form: str, share: float):
    raw = b"text " + raw
    packed = PACKERS[form](raw)
    data, faults = unpack(packed[: 12 + int((len(packed) - 12) * share)])
    assert raw.startswith(data)
    assert [fault.reason for fault in faults] == ["truncated_stream"]


@pytest.mark.parametrize("form", sorted(PACKERS))
def test_a_cut_stream_gives_nearly_all_of_what_was_stored(form: str):
    raw = noise(2_000_000)
    packed = PACKERS[form](raw)
    data, _ = unpack(packed[:-100_000])
    assert raw.startswith(data)
    assert len(data) > len(raw) - 1_100_000  # a block of bzip2 is up to 900,000 bytes


@pytest.mark.parametrize("form", sorted(PACKERS))
def test_streams_behind_a_damaged_one_are_read(form: str):
    raw = noise(150_000).hex().encode()
    packed = PACKERS[form](raw)
    damaged = packed[:50_000] + bytes(2_000) + packed[52_000:]
    data, faults = unpack(damaged + PACKERS[form](b"the end"))
    assert data.endswith(b"the end")
    assert [fault.reason for fault in faults] in (["damaged_stream"], ["wrong_checksum"])
    assert len(data) <= len(raw) + len(b"the end")


@given(st.binary(max_size=200), formats)
def test_junk_behind_a_stream_is_one_fault_and_zeros_are_none(junk: bytes, form: str):
    packed = PACKERS[form](b"text")
    assert unpack(packed + bytes(len(junk))) == (b"text", [])
    data, faults = unpack(packed + b"junk" + junk.replace(b"\x1f", b"").replace(b"B", b"").replace(b"\xfd", b"").replace(b"\x28", b""))
    assert data == b"text"
    assert [fault.reason for fault in faults] == ["trailing_junk"]


@given(st.binary(max_size=400))
def test_what_is_not_packed_comes_out_as_it_is(raw: bytes):
    raw = b"text " + raw
    assert unpack(raw) == (raw, [])


def test_a_bomb_is_cut_off_and_honest_repetition_is_not():
    data, faults = unpack(gzip.compress(bytes(100 * 2**20), 1))
    assert [fault.reason for fault in faults] == ["bomb"] or len(data) == 100 * 2**20
    data, faults = unpack(gzip.compress(b"2024-01-01 GET /index.html 200\n" * 100_000))
    assert (len(data), faults) == (3_100_000, [])


class Slow(io.BytesIO):
    """Gives seven bytes at a time."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(7, size or 7))


def test_chunks_do_not_depend_on_how_the_store_hands_them_out():
    packed = gzip.compress(noise(30_000)) + gzip.compress(b"end")
    assert list(unpacked(Slow(packed))) == list(unpacked(io.BytesIO(packed)))


def framed(content: bytes, magic: int = 0x184D2A5D) -> bytes:
    """A frame that zstd skips."""
    return magic.to_bytes(4, "little") + len(content).to_bytes(4, "little") + content


RECORDS = [b"WARC/1.0\r\nWARC-Type: response\r\nContent-Length: %d\r\n\r\nThe ferry left at %d.\r\n\r\n" % (n, n * 7) for n in range(300)]
DICTIONARY = zstd.train_dict([record * 3 for record in RECORDS], 2_000)
PACKED = [zstd.compress(record, zstd_dict=DICTIONARY) for record in RECORDS]


@pytest.mark.parametrize("held", [DICTIONARY.dict_content, zstd.compress(DICTIONARY.dict_content)])
def test_the_first_frame_of_an_archive_holds_the_dictionary_of_the_others(held: bytes):
    assert unpack(framed(held) + b"".join(PACKED)) == (b"".join(RECORDS), [])
    assert unpack(framed(held) + b"".join(PACKED[:5]) + zstd.compress(b"without")) == (b"".join(RECORDS[:5]) + b"without", [])


@pytest.mark.parametrize("first", [b"", framed(DICTIONARY.dict_content, 0x184D2A50), framed(b"other"), framed(zstd.compress(b"other"))])
def test_frames_whose_dictionary_is_not_there_are_refused_by_name(first: bytes):
    data, faults = unpack(first + zstd.compress(b"before") + PACKED[0] + zstd.compress(b" and behind"))
    assert data == b"before and behind"
    assert [fault.reason for fault in faults] == ["no_dictionary"]
    assert "Fix: unpack it with `zstd -d -D DICTIONARY`" in faults[0].evidence


def test_a_dictionary_that_is_a_bomb_is_none():
    data, faults = unpack(framed(zstd.compress(bytes(1 << 28))) + zstd.compress(b"text"))
    assert (data, faults) == (b"text", [])
