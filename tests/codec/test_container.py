"""The outer layer: sections come back, and whatever happens to their bytes is noticed."""

import lzma

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprune.codec.container import fold, fold_document, write_sections
from hwprune.codec.decoder.container import MAGIC, DecodeError, document, sections, unfold

FILE = write_sections([(b"a", b"some bytes"), (b"b", b""), (b"a", bytes(300))])


@settings(deadline=None)
@given(st.lists(st.tuples(st.binary(min_size=1, max_size=1), st.binary(max_size=50))))
def test_sections_come_back(parts):
    found = [(s.kind, bytes(s.content)) for s in sections(write_sections(parts))]
    assert found == [*parts, (b"E", b"")]


def test_offsets_are_where_sections_begin():
    for section in sections(FILE):
        assert FILE[section.offset : section.offset + 1] == section.kind


@pytest.mark.parametrize("bit", range(8))
def test_no_flipped_bit_goes_unnoticed(bit):
    whole = list(sections(FILE))
    for at in range(len(FILE)):
        data = bytearray(FILE)
        data[at] ^= 1 << bit
        try:
            found = list(sections(bytes(data)))
        except DecodeError:
            continue
        assert len(found) < len(whole)  # of a length that leads beyond the end
        assert [bytes(s.content) for s in found] == [bytes(s.content) for s in whole[: len(found)]]


def test_a_file_that_ends_early_has_its_whole_sections():
    for stop in range(10, len(FILE)):
        found = [bytes(s.content) for s in sections(FILE[:stop])]
        assert found == [b"some bytes", b"", bytes(300)][: len(found)]


@pytest.mark.parametrize("data", [b"", b"\x08\x08", MAGIC[:-1], b"PK\x03\x04" + FILE])
def test_other_files_are_told_from_it(data):
    with pytest.raises(DecodeError, match=r"no \.hwp file"):
        list(sections(data))


def test_a_transfer_as_text_shows():
    for changed in (FILE.replace(b"\r\n", b"\n"), FILE.replace(b"\n", b"\r\n")):
        with pytest.raises(DecodeError, match=r"no \.hwp file"):
            list(sections(changed))


def test_a_newer_version_is_named():
    with pytest.raises(DecodeError, match="version 7"):
        list(sections(MAGIC + b"\x07\0" + FILE[10:]))


@settings(deadline=None)
@given(st.binary(max_size=3000))
def test_folding_comes_back_and_is_what_lzma_calls_alone(data):
    assert unfold(fold(data), len(data)) == data
    assert lzma.decompress(fold(data), lzma.FORMAT_ALONE) == data


def test_unfolding_stops_at_its_limit():
    with pytest.raises(DecodeError, match="more than 999"):
        unfold(fold(bytes(1000)), 999)


@pytest.mark.parametrize("data", [b"", b"no lzma", fold(b"12345" * 99)[:-20][:13] + b"\xff" * 9])
def test_damaged_folds(data):
    with pytest.raises(DecodeError):
        document(data)


@pytest.mark.parametrize("text", [b"", b"[]", b"3", b"{", b"\xff", b'{"a": 1} b', b"[" * 99_999])
def test_descriptions_are_objects(text):
    with pytest.raises(DecodeError, match="description"):
        document(fold(text))


def test_documents_come_back():
    found = {"text": "\x7f~0", "numbers": [1, 2.5, -3], "in": {"a": None}}
    assert document(fold_document(found)) == found
