"""How targets are written, and that nothing in them reaches a shell or ssh as more than a name."""

import pytest

from hwprune.errors import UsageError
from hwprune.target import Host, TargetName, parse_target


@pytest.mark.parametrize(
    ("text", "host", "label"),
    [
        ("cpu", None, "cpu"),
        ("cpu@ssh:edge", Host("edge"), "cpu-edge"),
        ("cpu@ssh:pi@edge.lan", Host("edge.lan", "pi"), "cpu-edge.lan"),
        ("cpu@ssh:pi@10.0.0.7:2222", Host("10.0.0.7", "pi", 2222), "cpu-10.0.0.7"),
        (
            "cpu@ssh:edge/opt/venv/bin/python",
            Host("edge", python="/opt/venv/bin/python"),
            "cpu-edge",
        ),
        ("cpu@ssh:[fe80::1]:22", Host("fe80::1", port=22), "cpu-fe80__1"),
        ("cpu@ssh:a@b:1/p", Host("b", "a", 1, "/p"), "cpu-b"),
    ],
)
def test_parts(text: str, host: Host | None, label: str) -> None:
    target = parse_target(text)
    assert target == TargetName("cpu", host)
    assert target.label == label


@pytest.mark.parametrize(
    "text",
    [
        "",
        "cpu;rm",
        "-cpu",
        "cpu@",
        "cpu@edge",
        "cpu@http:edge",
        "cpu@ssh:",
        "cpu@ssh:-oProxyCommand=x",
        "cpu@ssh:pi@-oProxyCommand=x",
        "cpu@ssh:-l@edge",
        "cpu@ssh:edge;reboot",
        "cpu@ssh:edge$(reboot)",
        "cpu@ssh:edge`reboot`",
        "cpu@ssh:edge reboot",
        "cpu@ssh:edge\n",
        "cpu@ssh:%h",
        "cpu@ssh:edge:0",
        "cpu@ssh:edge:65536",
        "cpu@ssh:edge:ssh",
        "cpu@ssh:edge/",
        "cpu@ssh:edge/bin/-c",
        "cpu@ssh:edge/bin/python;reboot",
        "cpu@ssh:edge/bin/my python",
        "cpu@ssh:[::1",
        "cpu@ssh:ü",
        "cpu/../../x",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="there is no target") as caught:
        parse_target(text)
    assert "cpu@ssh:user@host:22/path/to/python" in caught.value.hint
