"""TokenGradientProbe: which tokens pull a layer the same way, and which against each other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, final

import torch
from matplotlib.figure import Figure

from lightning_emerge.capture.needs import TokenGradients
from lightning_emerge.figures.token_gradient import draw_token_cosines
from lightning_emerge.measures.token_gradient import conflict_share, token_cosines, token_norms
from lightning_emerge.probe import Probe
from lightning_emerge.records import Axis, Capture, Measurement, Record

_COSINE = Record(
    "token_gradient_cosine",
    ("layer", "token", "token_b"),
    "cosine",
    (-1, 1),
    "diverging",
    "Cosine between the gradients of two tokens' mean losses; NaN where one of them is zero",
)
_CONFLICT = Record(
    "gradient_conflict",
    ("layer",),
    "share",
    (0, 1),
    about="Share of pairs of different tokens whose gradients have a cosine below zero",
)
_NORM = Record(
    "token_gradient_norm",
    ("layer", "token"),
    "L2 norm",
    (0, None),
    "log",
    "Norm of the gradient of a token's mean loss with respect to the layer's weight",
)


@final
class TokenGradientProbe(Probe):
    """Measures the gradient of each token's mean cross-entropy on the bank, and how those of two tokens agree.

    Records `token_gradient_cosine` (layer, token, token_b), `gradient_conflict` (layer) and `token_gradient_norm`
    (layer, token).
    """

    needs: ClassVar = (TokenGradients(),)
    records: ClassVar = (_COSINE, _CONFLICT, _NORM)

    def measure(self, capture: Capture) -> Iterable[Measurement]:
        bank = capture.bank
        assert bank is not None
        gradients = capture.token_gradients.values()
        cosines = torch.stack([token_cosines(gradient) for gradient in gradients])
        conflicts = torch.stack([conflict_share(matrix) for matrix in cosines])
        norms = torch.stack([token_norms(gradient) for gradient in gradients])
        layers, tokens = Axis("layer", capture.layers), Axis("token", bank.tokens)
        yield _COSINE.of(cosines, layers, tokens, Axis("token_b", bank.tokens))
        yield _CONFLICT.of(conflicts, layers)
        yield _NORM.of(norms, layers, tokens)

    def draw(self, measurement: Measurement) -> Figure | None:
        return draw_token_cosines(measurement) if measurement.name == _COSINE.name else None
