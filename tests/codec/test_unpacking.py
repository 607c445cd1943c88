"""What is said of files that cannot be unpacked, or not wholly."""

import pytest

from hwprune.codec.unpacking import unpack
from hwprune.errors import ModelError
from hwprune.testing.specimens import specimens

FILES = {found.name: found for found in specimens()}
LIMIT = 1 << 20


@pytest.mark.parametrize("name", FILES)
def test_a_whole_file(name, tmp_path):
    path = tmp_path / "a.hwp"
    path.write_bytes(FILES[name].file)
    model, remark = unpack(path, LIMIT)
    assert model in FILES[name].models
    assert remark == ""


def test_a_file_that_was_cut_says_how_much_is_missing(tmp_path):
    path = tmp_path / "a.hwp"
    path.write_bytes(FILES["surp"].file[:-20])
    model, remark = unpack(path, LIMIT)
    assert model in FILES["surp"].models
    assert "ends early" in remark
    assert "%" in remark


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no .hwp file"),
        (b"\x08\x08onnx", "no .hwp file"),
        (FILES["exact"].file[:-20], "too early"),
        (FILES["exact"].file[:200] + b"?" + FILES["exact"].file[201:], "checksum"),
    ],
)
def test_other_files(content, said, tmp_path):
    path = tmp_path / "a.hwp"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=said) as caught:
        unpack(path, LIMIT)
    assert str(path) in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("name", ["nowhere.hwp", ""])
def test_files_that_are_not_there_and_folders(name, tmp_path):
    with pytest.raises(ModelError, match=r"nowhere|directory"):
        unpack(tmp_path / name, LIMIT)


def test_a_limit_is_named(tmp_path):
    path = tmp_path / "a.hwp"
    path.write_bytes(FILES["exact"].file)
    with pytest.raises(ModelError, match="limit is 1000"):
        unpack(path, 1000)
