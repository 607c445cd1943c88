"""How a network is trained: one value for everything a training decides beforehand."""

from dataclasses import dataclass, replace

from hwprune.errors import UsageError

OPTIMIZERS = ("sgd", "adamw")
CURVES = ("cosine", "step", "constant")


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train.

    Attributes:
        epochs: passes over the data; parts of one count.
        rate: peak learning rate for 128 samples a step; it follows the square root of that number.
        minutes: of the clock instead of `epochs`: as many steps as fit.
        optimizer: "sgd" (Nesterov momentum) or "adamw".
        curve: of the rate after its warm-up: "cosine" to zero, "constant", or "step": a tenth after
            half of the steps and a hundredth after three quarters.
        warmup: share of the steps in which the rate rises.
        weight_decay: on weights, not on norms and biases.
        temperature: of the distillation.
        label_weight: share of cross-entropy with the labels, where there are any; 1 leaves the
            teacher out.
        label_smoothing: of that cross-entropy.
        feature_weight: of the squared distance between inner tensors, beside that of the outputs.
        mixup: alpha of the Beta distribution that pairs of images are mixed by; 0 for none.
        ema: decay of a running mean of the weights, which is what is kept then; 0 for none.
        clip: largest norm of the gradient.
        half: compute in bfloat16 where the device has units for it.
        keeps_best: whether the weights that did best on held-out samples are what is left, or the
            last ones: those of a network that shrinks while it is trained.
    """

    epochs: float
    rate: float = 0.03
    minutes: float | None = None
    optimizer: str = "sgd"
    curve: str = "cosine"
    warmup: float = 0.1
    weight_decay: float = 1e-4
    temperature: float = 4.0
    label_weight: float = 0.1
    label_smoothing: float = 0.0
    feature_weight: float = 0.0
    mixup: float = 0.0
    ema: float = 0.0
    clip: float = 5.0
    half: bool = True
    keeps_best: bool = True

    def part(self, share: float) -> "Recipe":
        """The same for a share of the time."""
        minutes = None if self.minutes is None else share * self.minutes
        return replace(self, epochs=share * self.epochs, minutes=minutes)

    def check(self, labelled: bool) -> None:
        """Raises UsageError for what no training could do; `labelled`: whether data have labels."""
        for name, known in (("optimizer", OPTIMIZERS), ("curve", CURVES)):
            if getattr(self, name) not in known:
                raise UsageError(f"there is no {name} {getattr(self, name)!r}", ", ".join(known))
        shares = ("warmup", "label_weight", "label_smoothing", "ema")
        for name in shares:
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} is {getattr(self, name):g}", "it lies between 0 and 1")
        for name in ("epochs", "rate", "mixup", "feature_weight", "weight_decay"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} is {getattr(self, name):g}", "it cannot be negative")
        if not labelled and self.label_weight == 1:
            raise UsageError(
                "labels alone are to teach the network, and the data have none",
                "give labels (y), or a label weight below 1 to learn from the original",
            )
