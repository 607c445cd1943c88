"""What may happen around the steps of a training."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor


class Hook:
    """Does nothing; methods that act on a training override what they need.

    Within one step: `loss`, the gradients, the optimiser, `after_step`, `progressed`.
    """

    def start(self, steps: int, epoch: int, rate: float) -> None:
        """A training of so many steps, `epoch` of them a pass over the data, is about to begin.

        `rate` is what a steady gradient is going to move weights by in a step, at most.
        """

    def loss(self) -> Tensor | None:
        """What is added to the loss of this step."""
        return None

    def after_step(self, rate: float) -> None:
        """The weights have moved: under a steady gradient, by `rate` times it."""

    def progressed(self, done: int, total: int) -> None:
        """So many steps are done, of so many as it looks now: the clock may say others than at the
        start.
        """

    @property
    def told(self) -> str:
        """What there is to say of how it stands, in a few words."""
        return ""

    @property
    def done(self) -> bool:
        """Whether the training may end here."""
        return False

    def state(self) -> Mapping[str, Any]:
        """Everything that a training which goes on later needs: tensors, numbers, text."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Takes over a `state`."""
