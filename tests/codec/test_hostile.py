"""Damaged and hostile files: every one is refused, or is a model; fast, and in little memory."""

import resource
import shutil
import subprocess
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import hwprune.codec.decoder
from hwprune.codec.container import write_sections
from hwprune.codec.decoder import DecodeError, decode
from hwprune.codec.decoder.budget import Budget
from hwprune.codec.decoder.container import document, sections
from hwprune.codec.packing import pack_exact
from hwprune.testing.bombs import bombs
from hwprune.testing.damage import mended
from hwprune.testing.specimens import answer, damaged_specimen, single, specimens

GIGABYTE, SECONDS = 1 << 30, 5.0  # of the processor: others may use it, too
BOMBS = bombs()


@pytest.fixture(autouse=True)
def warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture
def one_gigabyte_more():
    """So much memory may be asked for, and no more."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * resource.getpagesize() + GIGABYTE
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def test_damage_by_chance():
    found, slowest = Counter(), 0.0
    for number in range(200):
        damaged = damaged_specimen(number)
        begin = time.process_time()
        found[answer(damaged)] += 1
        slowest = max(slowest, time.process_time() - begin)
    assert found["wrong"] == 0
    assert found["refused"] > 150
    assert found["model"] > 0  # some descriptions may be changed without harm
    assert slowest < SECONDS


@pytest.mark.parametrize("declared", BOMBS)
def test_enormous_declarations_are_refused(declared, one_gigabyte_more):
    begin = time.process_time()
    with pytest.raises(DecodeError) as caught:
        decode(BOMBS[declared])
    assert not isinstance(caught.value.__cause__, MemoryError)
    assert time.process_time() - begin < SECONDS


def test_no_memory_is_an_error_like_others(monkeypatch):
    def greedy(*_):
        raise MemoryError

    monkeypatch.setattr("hwprune.codec.decoder.model._join", greedy)
    with pytest.raises(DecodeError, match="memory"):
        decode(specimens()[0].file)


@pytest.mark.parametrize("name", [s.name for s in specimens()])
def test_a_file_that_ends_anywhere_is_refused_or_a_correct_beginning(name):
    found = next(s for s in specimens() if s.name == name)
    for stop in range(0, len(found.file), 97):
        try:
            model = decode(found.file[:stop])
        except DecodeError:
            continue
        assert not model.complete
        assert model.model in found.models


def test_bytes_behind_the_end_do_not_change_the_model():
    found = specimens()[0]
    assert decode(found.file + b"\0\0").model in found.models
    again = found.file + write_sections([])[10:]
    with pytest.raises(DecodeError, match="behind the end"):
        decode(again)


def test_sections_in_a_wrong_order_and_unknown_ones():
    parts = [(s.kind, bytes(s.content)) for s in sections(specimens()[0].file)][:-1]
    for wrong in (parts[1:], [*parts[1:], parts[0]], [*parts, parts[0]], [*parts, (b"?", b"")]):
        with pytest.raises(DecodeError):
            decode(write_sections(wrong))


def test_a_limit_that_is_asked_for_is_kept():
    found = specimens()[0]
    (model,) = found.models
    assert decode(found.file, len(model)).model == model
    with pytest.raises(DecodeError, match="limit"):
        decode(found.file, len(model) - 1)


def test_only_what_has_no_right_checksum_is_told_by_it():
    file = bytearray(specimens()[0].file)
    file[30] ^= 1
    with pytest.raises(DecodeError, match="checksum"):
        decode(bytes(file))
    with pytest.raises(DecodeError, match=r"^(?!.*checksum)"):
        decode(mended(bytes(file)))


def test_models_of_nothing_but_zeros_are_still_believed():
    model = single(np.zeros((1500, 1500), np.float32))
    file = pack_exact(model).file
    assert len(file) < len(model) / 1000
    assert decode(file).model == model


def test_a_budget_ends():
    budget = Budget(100)
    budget.take(800)
    with pytest.raises(DecodeError):
        budget.take(1)
    with pytest.raises(DecodeError):
        budget.spend(1 << 21)


def test_the_decoder_goes_along_on_its_own(tmp_path):
    """A copy of its folder decodes in a process in which nothing but numpy can be imported."""
    folder = Path(hwprune.codec.decoder.__file__).parent
    shutil.copytree(folder, tmp_path / "decoder", ignore=shutil.ignore_patterns("__pycache__"))
    for found in specimens():
        (tmp_path / f"{found.name}.hwp").write_bytes(found.file)
    names = [s.name for s in specimens()]
    script = (
        "import sys; from pathlib import Path\n"
        "class Wall:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        top = name.partition('.')[0]\n"
        "        if top not in {'numpy', 'decoder', *sys.stdlib_module_names}:\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Wall()); sys.path.insert(0, '.')\n"
        "from decoder import decode\n"
        f"for name in {names}:\n"
        "    Path(name).write_bytes(decode(Path(name + '.hwp').read_bytes()).model)\n"
    )
    command = [sys.executable, "-I", "-c", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for found in specimens():
        assert (tmp_path / found.name).read_bytes() in found.models


def test_specimens_are_foretold():
    """So that damage comes to coefficients, too."""
    entries = [
        (specimen.name, entry)
        for specimen in specimens()
        for entry in document(next(sections(specimen.file)).content)["tensors"]
    ]
    found = {(name, entry["form"]) for name, entry in entries if "foretold" in entry}
    assert {("exact", "planes"), ("deadzone", "trellis")} <= found
