"""Options of onnxruntime that change time, as `--runtime arena=off,graph=basic` gives them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from hwprune.errors import UsageError

_SWITCH = {"on": True, "off": False}
_VALUES: Mapping[str, tuple[str, ...]] = {
    "arena": tuple(_SWITCH),
    "spinning": tuple(_SWITCH),
    "graph": ("all", "extended", "basic", "disable"),
}


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """How sessions are set up; the defaults are the runtime's own.

    `arena`: memory is kept between runs. `spinning`: threads wait for work without sleeping.
    `graph`: how far the runtime optimises the network when it loads it.
    """

    arena: str = "on"
    spinning: str = "on"
    graph: str = "all"

    @classmethod
    def read(cls, given: Mapping[str, str]) -> "RuntimeOptions":
        """From the options' names and values. Raises UsageError for others than the known."""
        for name, value in given.items():
            if value not in _VALUES.get(name, ()):
                what = f"option {name!r}" if name not in _VALUES else f"{name}={value}"
                raise UsageError(f"onnxruntime has no {what} here", f"known: {known()}")
        return cls(**given)

    def texts(self) -> dict[str, str]:
        """All options by name, as `read` takes them."""
        return asdict(self)

    def request(self) -> dict[str, bool | str]:
        """As the agent takes them."""
        return {name: _SWITCH.get(value, value) for name, value in self.texts().items()}

    def session_options(self) -> dict[str, str]:
        """What differs from onnxruntime's own defaults, in the names of its `SessionOptions`."""
        found = {}
        if self.arena == "off":
            found["enable_cpu_mem_arena"] = "False"
        if self.spinning == "off":
            found["session.intra_op.allow_spinning"] = "0"
        if self.graph != "all":
            level = "DISABLE_ALL" if self.graph == "disable" else f"ENABLE_{self.graph.upper()}"
            found["graph_optimization_level"] = f"ORT_{level}"
        return found


def known() -> str:
    """'arena=on|off, ...': every option with its values."""
    return ", ".join(f"{name}={'|'.join(values)}" for name, values in _VALUES.items())
