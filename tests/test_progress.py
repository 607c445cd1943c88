"""Progress: lines in a log are few, a bar shows on a terminal, silence is silent."""

import io

import pytest

from hwprune.progress import Lines, Silent, Terminal, progress_on, remaining


class Clock:
    """A clock that moves when told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_lines_come_at_most_every_five_seconds() -> None:
    stream, clock = io.StringIO(), Clock()
    with Lines(stream, clock).stage("profile", total=100) as stage:
        for done in range(101):
            clock.now = done * 0.1
            stage.update(done, f"kernel {done}")
    said = [line.split(" ", 1)[1] for line in stream.getvalue().splitlines()]
    assert said == [
        "profile ...",
        "profile 50%, 5.0 s left: kernel 50",
        "profile 100%, 0.0 s left: kernel 100",
        "profile done in 10.0 s",
    ]


def test_an_unknown_total_shows_the_time_spent() -> None:
    stream, clock = io.StringIO(), Clock()
    with Lines(stream, clock).stage("search") as stage:
        clock.now = 125.0
        stage.update(7)
    assert "search (2:05 min)" in stream.getvalue()


def test_a_stage_that_fails_is_not_reported_as_done() -> None:
    stream = io.StringIO()
    with pytest.raises(RuntimeError), Lines(stream).stage("export"):
        raise RuntimeError
    assert "done" not in stream.getvalue()


def test_a_terminal_shows_the_stage_and_what_is_done() -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Screen()
    progress = progress_on(screen)
    assert isinstance(progress, Terminal)
    with progress.stage("profile", total=2) as stage:
        stage.update(1, "Conv [8, 8]")
    progress.note("a [note]")
    assert "profile" in screen.getvalue()
    assert "a [note]" in screen.getvalue()


def test_a_log_gets_lines_and_silence_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(progress_on(io.StringIO()), Lines)
    with Silent().stage("export", 1) as stage:
        stage.update(1, "model.onnx")
    Silent().note("hello")
    assert capsys.readouterr() == ("", "")


def test_remaining_time() -> None:
    assert remaining(0, 10, 5.0) is None
    assert remaining(5, 10, 5.0) == 5.0
    assert remaining(12, 10, 5.0) == 0.0
