"""CurvatureProbe: how sharply the loss bends where the network is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, Literal, final

import torch

from lightning_emerge.capture.needs import Images, Network, Weights
from lightning_emerge.measures.curvature import (
    hessian_products,
    largest_eigenvalues,
    mean_and_error,
    random_signs,
    trace_samples,
)
from lightning_emerge.probe import Probe
from lightning_emerge.records import Axis, Capture, Measurement, Record
from lightning_emerge.schedules import LogSpaced, Schedule

_UNIT, _SPREAD = "loss / weight^2", "Standard error of the estimate, from vector to vector"
_VALUE = Record(
    "hessian_eigenvalue",
    ("rank",),
    _UNIT,
    scale="diverging",
    about="Largest eigenvalues of the Hessian of the bank's mean loss",
)
_RESIDUAL = Record(
    "hessian_eigenvalue_error",
    ("rank",),
    _UNIT,
    (0, None),
    about="Residual: an eigenvalue lies within so much of the value",
)
_TRACE = Record(
    "hessian_trace", (), _UNIT, scale="diverging", about="Estimate of the Hessian's trace, from random vectors"
)
_TRACE_ERROR = Record("hessian_trace_error", (), _UNIT, (0, None), about=_SPREAD)
_LAYER = Record(
    "hessian_layer_trace",
    ("layer",),
    _UNIT,
    scale="diverging",
    about="Estimate of the trace of the layer's block of the Hessian",
)
_LAYER_ERROR = Record("hessian_layer_trace_error", ("layer",), _UNIT, (0, None), about=_SPREAD)


@final
class CurvatureProbe(Probe):
    """Measures the Hessian of the bank's mean loss with respect to its layers' weights, jointly.

    It passes the bank once an iteration and once more for the trace, on process zero while the others wait, and each
    pass with its two backward passes costs several passes of a look. So it looks seldom: `LogSpaced(3)` if no schedule
    is given.

    Records `hessian_eigenvalue` and `hessian_eigenvalue_error` (rank), `hessian_trace` and `hessian_trace_error`, and
    `hessian_layer_trace` and `hessian_layer_trace_error` (layer).

    Args:
        eigenvalues: how many of the largest to find, at least 1.
        iterations: products with the Hessian at most, to find them with; at least as many.
        vectors: random vectors for the trace, at least 2. Its standard error falls with their square root.
        seed: of the random vectors, the same at every look.
        schedule: as for any probe.
        layers: as for any probe.
        on_error: as for any probe.

    Raises:
        ValueError: if a number is out of its range.
    """

    # Its layers' weights, so that a layer without one is found before training.
    needs: ClassVar = (Network(), Images(), Weights())
    records: ClassVar = (_VALUE, _RESIDUAL, _TRACE, _TRACE_ERROR, _LAYER, _LAYER_ERROR)

    def __init__(
        self,
        eigenvalues: int = 3,
        iterations: int = 30,
        vectors: int = 20,
        seed: int = 0,
        schedule: Schedule | None = None,
        layers: Sequence[str] | None = None,
        on_error: Literal["report", "raise"] = "report",
    ) -> None:
        super().__init__(schedule or LogSpaced(3), layers, on_error)
        if eigenvalues < 1 or iterations < eigenvalues or vectors < 2:
            raise ValueError(
                "CurvatureProbe: eigenvalues is at least 1, iterations at least as many, vectors at least 2; "
                f"got {eigenvalues}, {iterations} and {vectors}."
            )
        self.eigenvalues, self.iterations, self.vectors, self.seed = eigenvalues, iterations, vectors, seed

    def measure(self, capture: Capture) -> Iterable[Measurement]:
        bank, network = capture.bank, capture.network
        assert bank is not None
        assert network is not None
        weights = list(network.parameters(capture.layers).values())
        device, sizes = weights[0].device, [weight.numel() for weight in weights]

        def multiply(vectors: torch.Tensor) -> torch.Tensor:
            try:
                return hessian_products(network.loss, weights, len(bank), vectors)
            except RuntimeError as error:
                if "is not implemented" not in str(error):
                    raise
                raise ValueError(
                    f"A Hessian takes second derivatives; torch lacks that of one of its functions: {error}. "
                    "Leave CurvatureProbe out, or use another function in its place."
                ) from None

        values, residuals = largest_eigenvalues(
            lambda vector: multiply(vector[None])[0],
            sum(sizes),
            self.eigenvalues,
            iterations=self.iterations,
            generator=torch.Generator().manual_seed(self.seed),
            device=device,
        )
        signs = random_signs(self.vectors, sum(sizes), torch.Generator().manual_seed(self.seed)).to(device)
        samples = trace_samples(signs, multiply(signs), sizes)
        trace, error = mean_and_error(samples.sum(dim=1))
        by_layer, errors = mean_and_error(samples)
        ranks, layers = Axis("rank", range(1, self.eigenvalues + 1)), Axis("layer", capture.layers)
        yield _VALUE.of(values, ranks)
        yield _RESIDUAL.of(residuals, ranks)
        yield _TRACE.of(trace)
        yield _TRACE_ERROR.of(error)
        yield _LAYER.of(by_layer, layers)
        yield _LAYER_ERROR.of(errors, layers)
