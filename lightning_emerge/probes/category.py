"""CategoryProbe: how well the network tells each token of the stimulus bank."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal, final

from lightning_emerge.measures.category import accuracy_by_token, confidence_by_token
from lightning_emerge.probe import Probe
from lightning_emerge.records import Axis, Capture, Measurement, Needs, to_array
from lightning_emerge.schedules import Schedule


@final
class CategoryProbe(Probe):
    """Measures accuracy and confidence on the stimulus bank by token: the curves of their emergence.

    Records `bank_accuracy` and `bank_confidence` (token), and `bank_accuracy_mean`.

    Args:
        schedule: as for any probe.
        on_error: as for any probe.
    """

    needs: ClassVar = Needs(outputs=True)

    def __init__(self, schedule: Schedule | None = None, on_error: Literal["report", "raise"] = "report") -> None:
        super().__init__(schedule, on_error=on_error)

    def measure(self, capture: Capture) -> Iterable[Measurement]:
        bank, logits = capture.bank, capture.outputs
        assert bank is not None
        assert logits is not None
        labels = bank.labels.to(logits.device)
        tokens, source = Axis("token", bank.tokens), type(self).__name__
        accuracy, confidence = accuracy_by_token(logits, labels), confidence_by_token(logits, labels)
        for name, values, axes, unit, about in (
            ("bank_accuracy", accuracy, (tokens,), "share", "Share of a token's stimuli that are told right"),
            ("bank_accuracy_mean", accuracy.nanmean(), (), "share", "Mean over tokens of the share told right"),
            ("bank_confidence", confidence, (tokens,), "probability", "Mean probability given to the right token"),
        ):
            yield Measurement(name, to_array(values), axes, capture.step, unit, source, about)
