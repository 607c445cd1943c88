"""Everything hwprune raises on purpose.

HwpruneError                   1   internal
|- UsageError                  2   the command line or a call is wrong
|- ModelError                  3   the model cannot be read
|  |- UnsupportedModelError    3   it was read, but something in it cannot be compiled
|  `- UnsafeModelError         3   it was refused: it breaks a safety rule
|- DataError                   3   the data set or the weights cannot be used
|- InfeasibleError             4   no configuration meets the budget
|- BackendError                5   the target is missing or failed
|- NoisyError                  6   measurements too noisy to say anything
`- StoreError                  7   disk, lock or database

A message says what is wrong, where and why; `hint` says what to do next.
"""


class HwpruneError(Exception):
    """Base of all errors; `exit_code` is the process' exit status (design: command line)."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(HwpruneError):
    """A wrong option, name or value."""

    exit_code = 2


class ModelError(HwpruneError):
    """The model cannot be read."""

    exit_code = 3


class UnsupportedModelError(ModelError):
    """The model was read, but holds something that cannot be compiled."""


class UnsafeModelError(ModelError):
    """The model breaks a safety rule and was refused."""


class DataError(HwpruneError):
    """The data set or weights file cannot be used with this model."""

    exit_code = 3


class InfeasibleError(HwpruneError):
    """No configuration meets the constraints; the message carries the nearest reachable one."""

    exit_code = 4


class BackendError(HwpruneError):
    """The target is not installed, or failed while it measured or ran."""

    exit_code = 5


class NoisyError(HwpruneError):
    """The machine is too noisy for any statement about time."""

    exit_code = 6


class StoreError(HwpruneError):
    """Disk full, folder locked or in use, database damaged."""

    exit_code = 7
