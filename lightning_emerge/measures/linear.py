"""Linear algebra of torch, with types that a strict checker knows, in float64 where the device has it."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from lightning_emerge.records import widest


def solve(matrix: Float[Tensor, "*batch n n"], right: Float[Tensor, "*batch n m"]) -> Float[Tensor, "*batch n m"]:
    """Solves matrix @ x = right for x; NaN where the matrix is not finite."""
    found: Tensor = torch.linalg.solve_ex(matrix, right)[0]
    return found


def positive_inverse(matrix: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """Inverts a symmetric positive definite matrix; NaN if it is none."""
    factor: Tensor
    failed: Tensor
    factor, failed = torch.linalg.cholesky_ex(matrix)
    found: Tensor = torch.cholesky_inverse(factor) if not failed.item() else torch.full_like(matrix, torch.nan)
    return found


def eigenvectors(matrix: Float[Tensor, "n n"]) -> tuple[Float[Tensor, " n"], Float[Tensor, "n n"]]:
    """Gives the eigenvalues of a symmetric matrix, ascending, and their eigenvectors as columns.

    All are NaN if the matrix is not finite.
    """
    if not bool(matrix.isfinite().all()):
        return torch.full_like(matrix[0], torch.nan), torch.full_like(matrix, torch.nan)
    values: Tensor
    vectors: Tensor
    values, vectors = torch.linalg.eigh(matrix)
    return values, vectors


def eigenvalues(matrix: Float[Tensor, "n n"]) -> Float[Tensor, " n"]:
    """Gives the eigenvalues of a symmetric matrix, ascending; NaN if it is not finite."""
    if not bool(matrix.isfinite().all()):
        return torch.full_like(matrix[0], torch.nan)
    found: Tensor = torch.linalg.eigvalsh(matrix)
    return found


def singular_values(matrix: Float[Tensor, "n m"]) -> Float[Tensor, " k"]:
    """Gives the singular values of a matrix, descending; NaN if it is not finite."""
    if not bool(matrix.isfinite().all()):
        return torch.full((min(matrix.shape),), torch.nan).to(matrix)
    found: Tensor = torch.linalg.svdvals(matrix)
    return found


def wide(tensor: Shaped[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Gives a tensor in float64, or in float32 on a device that has no float64, such as Apple's GPUs."""
    return tensor.to(widest(tensor))
