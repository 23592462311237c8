"""The curvature of the loss: largest eigenvalues and trace of its Hessian, from products with vectors alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_emerge.measures.linear import wide

_CHUNK = 32


def hessian_products(
    loss: Callable[[Tensor], Tensor],
    weights: Sequence[Tensor],
    count: int,
    vectors: Float[Tensor, "vector weight"],
) -> Float[Tensor, "vector weight"]:
    """Multiplies vectors by the Hessian of a mean loss, in one pass of the stimuli.

    Each product is the gradient of (gradient . vector) (Pearlmutter, Fast Exact Multiplication by the Hessian, Neural
    Computation 1994). A ReLU's second derivative counts as zero everywhere, its corner included.

    Args:
        loss: gives the sum of the losses of some stimuli, by their positions, each stimulus by itself.
        weights: with respect to which to differentiate, jointly; each requires a gradient.
        count: how many stimuli there are.
        vectors: one a row, the entries of all weights flattened one after the other.

    Returns:
        One product a row, in the type and on the device of the vectors.
    """
    sizes = [weight.numel() for weight in weights]
    products = torch.zeros_like(vectors)
    for chunk in torch.split(torch.arange(count), _CHUNK):
        pulls = torch.autograd.grad(loss(chunk) / count, weights, create_graph=True, materialize_grads=True)
        for row, vector in enumerate(vectors):  # all of them over one graph
            pieces = zip(weights, torch.split(vector, sizes), strict=True)
            parts = [piece.view_as(weight).to(weight) for weight, piece in pieces]
            products[row] += _differentiate(pulls, weights, parts).to(vectors)
    return products


def largest_eigenvalues(
    product: Callable[[Tensor], Tensor],
    size: int,
    count: int,
    *,
    iterations: int,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
    tolerance: float = 1e-3,
) -> tuple[Float[Tensor, " rank"], Float[Tensor, " rank"]]:
    """Finds the largest eigenvalues of a symmetric matrix by Lanczos' method with full reorthogonalisation.

    It ends when the residual of each is below `tolerance` of its size; the error of an eigenvalue that stands by itself
    is about the square of that. An eigenvalue that occurs several times may be found once.

    Source: Golub & Van Loan, Matrix Computations, 4th edition, sections 10.1 and 10.3.

    Args:
        product: multiplies a vector (weight,) by the matrix.
        size: rows of the matrix.
        count: how many eigenvalues, the algebraically largest first.
        iterations: products at most.
        generator: of the first vector, on the CPU, so that it is the same on any device.
        dtype: of the vectors.
        device: of the vectors.
        tolerance: residual over eigenvalue at which to end.

    Returns:
        The eigenvalues, and the residual of each in float64: some eigenvalue lies within so much of it. NaN beyond what
        was found, and everywhere if the matrix is not finite.
    """
    basis = torch.empty(min(iterations, size), size, dtype=dtype, device=device)
    band = torch.zeros(len(basis) + 1, len(basis) + 1, dtype=torch.float64)
    vector = torch.randn(size, generator=generator, dtype=torch.float64)
    values = errors = torch.full((count,), torch.nan, dtype=torch.float64)
    for k in range(len(basis)):
        basis[k] = _unit(vector.to(basis), basis[:k])
        pulled = product(basis[k])
        vector = _orthogonal(pulled, basis[: k + 1])
        band[k, k] = (basis[k] @ pulled).item()
        band[k, k + 1] = band[k + 1, k] = _length(vector).item()
        if not band.isfinite().all():
            return torch.full_like(values, torch.nan), torch.full_like(values, torch.nan)
        values, errors = _ritz(band[: k + 1, : k + 1], band[k, k + 1], count)
        if bool((errors <= tolerance * values.abs()).all()):
            break
        if band[k, k + 1] <= torch.finfo(dtype).eps * band.abs().max():
            # The vectors so far are closed under the matrix: it goes on from a new one.
            band[k, k + 1] = band[k + 1, k] = 0
            vector = torch.randn(size, generator=generator, dtype=torch.float64)
    return values, errors


def random_signs(count: int, size: int, generator: torch.Generator) -> Float[Tensor, "vector weight"]:
    """Samples vectors whose entries are 1 or -1 with equal probability (Rademacher), on the CPU."""
    return torch.randint(0, 2, (count, size), generator=generator, dtype=torch.float32) * 2 - 1


def trace_samples(
    vectors: Float[Tensor, "vector weight"], products: Float[Tensor, "vector weight"], sizes: Sequence[int]
) -> Float[Tensor, "vector block"]:
    """Estimates the trace of each diagonal block of a matrix from its products with random signs.

    v_b . (Hv)_b expects the trace of block b; it is exact if H is diagonal. The sum over blocks estimates the trace of
    the whole.

    Source: Hutchinson, A Stochastic Estimator of the Trace of the Influence Matrix, Communications in Statistics 1989.

    Args:
        vectors: v, of `random_signs`.
        products: Hv.
        sizes: entries of each block, one after the other.

    Returns:
        One independent estimate a vector, in float64 where the device has it.
    """
    parts = torch.split(wide(vectors * products), list(sizes), dim=1)
    return torch.stack([part.sum(dim=1) for part in parts], dim=1)


def mean_and_error(samples: Float[Tensor, "vector ..."]) -> tuple[Float[Tensor, ...], Float[Tensor, ...]]:
    """Averages independent estimates.

    Returns:
        The mean, and its standard error (standard deviation with n - 1, over sqrt n); NaN as the error of one.
    """
    count = len(samples)
    spread = samples.std(dim=0) if count > 1 else torch.full_like(samples[0], torch.nan)
    return samples.mean(dim=0), spread / count**0.5


def _differentiate(pulls: Sequence[Tensor], weights: Sequence[Tensor], parts: Sequence[Tensor]) -> Tensor:
    """The gradient of (pulls . parts), flat. A pull that no weight can change is no part of it."""
    pairs = [(pull, part) for pull, part in zip(pulls, parts, strict=True) if pull.requires_grad]
    found = torch.autograd.grad(
        [pull for pull, _ in pairs],
        weights,
        [part for _, part in pairs],
        retain_graph=True,
        materialize_grads=True,
    )
    return torch.cat([part.flatten() for part in found])


def _orthogonal(vector: Tensor, basis: Tensor) -> Tensor:
    """Takes what lies along orthonormal rows out of a vector; twice, as the first time leaves rounding errors."""
    for _ in range(2):
        vector = vector - (basis @ vector) @ basis
    return vector


def _unit(vector: Tensor, basis: Tensor) -> Tensor:
    vector = _orthogonal(vector / _length(vector), basis)
    return vector / _length(vector)


def _eigenvectors(symmetric: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, the smallest first, and eigenvectors in the columns."""
    return torch.linalg.eigh(symmetric)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def _length(vector: Tensor) -> Tensor:
    return vector.square().sum().sqrt()


def _ritz(band: Tensor, beyond: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The largest eigenvalues of a tridiagonal matrix and the residuals of those of the matrix it stands for."""
    values, vectors = _eigenvectors(band)
    errors = (beyond * vectors[-1]).abs()
    missing = torch.full((max(0, count - len(values)),), torch.nan, dtype=values.dtype)
    return torch.cat([values.flip(0)[:count], missing]), torch.cat([errors.flip(0)[:count], missing])
