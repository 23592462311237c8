"""TokenGradientProbe: which tokens pull a layer the same way, and which against each other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, final

import torch
from matplotlib.figure import Figure

from lightning_emerge.figures.token_gradient import draw_token_cosines
from lightning_emerge.measures.token_gradient import conflict_share, token_cosines, token_norms
from lightning_emerge.probe import Probe
from lightning_emerge.records import Axis, Capture, Measurement, Needs, to_array


@final
class TokenGradientProbe(Probe):
    """Measures the gradient of each token's mean cross-entropy on the bank, and how those of two tokens agree.

    Records `token_gradient_cosine` (layer, token, token_b), `gradient_conflict` (layer) and `token_gradient_norm`
    (layer, token).
    """

    needs: ClassVar = Needs(token_gradients=True)

    def measure(self, capture: Capture) -> Iterable[Measurement]:
        bank = capture.bank
        assert bank is not None
        gradients = capture.token_gradients.values()
        cosines = torch.stack([token_cosines(gradient) for gradient in gradients])
        conflicts = torch.stack([conflict_share(matrix) for matrix in cosines])
        norms = torch.stack([token_norms(gradient) for gradient in gradients])
        layers, tokens = Axis("layer", capture.layers), Axis("token", bank.tokens)
        for name, values, axes, unit, about in (
            (
                "token_gradient_cosine",
                cosines,
                (layers, tokens, Axis("token_b", bank.tokens)),
                "cosine",
                "Cosine between the gradients of two tokens' mean losses; NaN where one of them is zero",
            ),
            (
                "gradient_conflict",
                conflicts,
                (layers,),
                "share",
                "Share of pairs of different tokens whose gradients have a cosine below zero",
            ),
            (
                "token_gradient_norm",
                norms,
                (layers, tokens),
                "L2 norm",
                "Norm of the gradient of a token's mean loss with respect to the layer's weight",
            ),
        ):
            yield Measurement(name, to_array(values), axes, capture.step, unit, type(self).__name__, about)

    def draw(self, measurement: Measurement) -> Figure | None:
        return draw_token_cosines(measurement) if measurement.name == "token_gradient_cosine" else None
