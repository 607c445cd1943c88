import os

import pytest

from hwprune.errors import StoreError
from hwprune.store.paths import cache_folder, table_path


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in ("HWPRUNE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)


def test_the_own_variable_comes_first(tmp_path, monkeypatch):
    monkeypatch.setenv("HWPRUNE_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "own"
    assert cache_folder().is_dir()


def test_then_xdg_then_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "hwprune"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "hwprune"


def test_a_cache_that_is_a_file_is_refused_by_name(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HWPRUNE_CACHE", str(tmp_path / "file"))
    with pytest.raises(StoreError, match="cannot be written") as error:
        cache_folder()
    assert "HWPRUNE_CACHE" in error.value.hint
    assert os.listdir(tmp_path) == ["file"]


def test_without_a_cache_the_table_stays_in_memory_with_a_warning(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HWPRUNE_CACHE", str(tmp_path / "file" / "below"))
    with pytest.warns(UserWarning, match="not kept"):
        assert table_path() is None
