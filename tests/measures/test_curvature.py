"""The Hessian from products alone: against the whole matrix, closed forms and known spectra."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd.functional import hessian
from torch.func import functional_call
from torch.nn.functional import cross_entropy

import lightning_emerge as le
from lightning_emerge.measures.curvature import (
    hessian_products,
    largest_eigenvalues,
    mean_and_error,
    random_signs,
    trace_samples,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def diagonal(*entries: float):
    row = torch.tensor(entries, dtype=torch.float64)
    return lambda vector: row * vector


def top(product, size: int, count: int, iterations: int = 50, **more):
    return largest_eigenvalues(
        product, size, count, iterations=iterations, generator=seeded(), dtype=torch.float64, **more
    )


def make_network(stimuli: int = 70) -> tuple[nn.Module, list[str], torch.Tensor, torch.Tensor]:
    """A network with batch norm, the names of its weights, and a bank."""
    torch.manual_seed(0)
    network = le.VGG(plan=[1, 1], width=2, head=[4], image_size=8, batch_norm=True, tokens=3).double()
    images, labels = torch.randn(stimuli, 3, 8, 8).double(), torch.arange(stimuli) % 3
    network(images)  # statistics of the batch norm
    names = [name for name, parameter in network.named_parameters() if parameter.dim() >= 2]
    return network.eval(), names, images, labels


def losses(network: nn.Module, images: torch.Tensor, labels: torch.Tensor):
    """Sums of the cross-entropies of some stimuli."""
    return lambda rows: cross_entropy(network(images[rows]), labels[rows], reduction="sum")


@pytest.fixture(scope="module")
def whole():
    """A network, and its whole Hessian over one batch as torch finds it."""
    network, names, images, labels = make_network()
    held = {name: parameter.detach() for name, parameter in network.named_parameters()}
    sizes = [held[name].numel() for name in names]

    def loss(flat: torch.Tensor) -> torch.Tensor:
        weights = {n: p.view_as(held[n]) for n, p in zip(names, flat.split(sizes), strict=True)}
        return cross_entropy(functional_call(network, {**held, **weights}, images), labels)

    matrix = hessian(loss, torch.cat([held[name].flatten() for name in names]))
    weights = [dict(network.named_parameters())[name] for name in names]
    return (
        matrix,
        sizes,
        lambda vectors: hessian_products(losses(network, images, labels), weights, len(images), vectors),
    )


class TestProducts:
    def test_they_are_those_of_the_whole_hessian(self, whole):
        matrix, sizes, multiply = whole
        vectors = torch.randn(3, sum(sizes), generator=seeded(), dtype=torch.float64)
        torch.testing.assert_close(multiply(vectors), vectors @ matrix, rtol=1e-9, atol=1e-12)

    def test_weights_that_nothing_reaches_have_no_curvature(self):
        network, unused = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.ones(2, 2, requires_grad=True)
        weights, images, labels = [network[1].weight, unused], torch.ones(3, 1, 2, 2), torch.tensor([0, 1, 1])
        products = hessian_products(losses(network, images, labels), weights, 3, torch.ones(1, 12))
        assert (products[0, 8:] == 0).all()
        assert all(parameter.grad is None for parameter in network.parameters())

    def test_a_linear_classifier_has_its_closed_form(self):
        network = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False)).double()
        nn.init.zeros_(network[1].weight)
        images = torch.tensor([[[[2.0, 0.0]]], [[[0.0, 1.0]]]], dtype=torch.float64)
        # (diag p - p p') times x x' with p = 1/2: 1/4 [[1, -1], [-1, 1]] times x x'.
        loss = losses(network, images, torch.tensor([0, 1]))
        products = hessian_products(loss, [network[1].weight], 2, torch.eye(4, dtype=torch.float64))
        squares = torch.diag(torch.tensor([4.0, 1.0], dtype=torch.float64)) / 2
        centred = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64) / 4
        torch.testing.assert_close(products, torch.kron(centred, squares))


class TestEigenvalues:
    def test_they_are_those_of_the_whole_hessian(self, whole):
        matrix, sizes, multiply = whole
        values, errors = top(lambda vector: multiply(vector[None])[0], sum(sizes), 3)
        expected = torch.linalg.eigvalsh(matrix).flip(0)[:3]
        torch.testing.assert_close(values, expected, rtol=1e-3, atol=0)
        assert (errors <= 1e-3 * values).all()
        assert ((values - expected).abs() <= errors + 1e-12).all()

    def test_single_precision_finds_the_same(self, whole):
        matrix, sizes, _ = whole
        values, _ = largest_eigenvalues(
            lambda vector: matrix.float() @ vector, sum(sizes), 3, iterations=50, generator=seeded()
        )
        torch.testing.assert_close(values, torch.linalg.eigvalsh(matrix).flip(0)[:3], rtol=1e-3, atol=0)

    def test_a_diagonal_has_its_entries_the_largest_first_and_signs_count(self):
        values, errors = top(diagonal(1, -9, 4, 0.5, 3), 5, 3)
        np.testing.assert_allclose(values, [4, 3, 1], rtol=1e-9)
        np.testing.assert_allclose(errors, 0, atol=1e-9)

    @pytest.mark.parametrize(("entries", "expected"), [([0.0] * 4, [0, 0]), ([2.0] * 4, [2, 2]), ([7.0], [7, np.nan])])
    def test_vectors_that_are_used_up_are_replaced(self, entries, expected):
        values, _ = top(diagonal(*entries), len(entries), 2)
        np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-12)

    def test_it_ends_when_they_have_converged(self):
        calls = []
        entries = torch.linspace(0, 1, 500, dtype=torch.float64)
        entries[-2:] = torch.tensor([50.0, 100.0])

        def product(vector):
            calls.append(1)
            return entries * vector

        values, _ = top(product, 500, 2, iterations=100)
        np.testing.assert_allclose(values, [100, 50], rtol=1e-5)
        assert len(calls) < 15

    def test_what_has_not_converged_says_so(self):
        generator = seeded(1)
        matrix = torch.randn(300, 300, generator=generator, dtype=torch.float64)
        matrix = matrix + matrix.T
        values, errors = top(lambda vector: matrix @ vector, 300, 1, iterations=8)
        nearest = (torch.linalg.eigvalsh(matrix) - values).abs().min()
        assert errors[0] > 1e-3 * values[0]
        assert nearest <= errors[0]

    def test_full_reorthogonalisation_brings_no_copies(self):
        # Without it, the largest of these is found again and again.
        entries = torch.logspace(-6, 4, 200, dtype=torch.float64)
        values, _ = largest_eigenvalues(
            lambda vector: entries.float() * vector,
            200,
            8,
            iterations=60,
            generator=seeded(),
            tolerance=1e-6,
        )
        np.testing.assert_allclose(values, entries.flip(0)[:8], rtol=1e-3)

    def test_a_matrix_that_is_not_finite_has_none(self):
        values, errors = top(lambda vector: vector * torch.nan, 5, 3)
        assert values.isnan().all()
        assert errors.isnan().all()

    def test_the_seed_decides(self):
        matrix = torch.randn(50, 50, generator=seeded(), dtype=torch.float64)
        matrix = matrix + matrix.T
        first, again = (top(lambda vector: matrix @ vector, 50, 2, iterations=5)[0] for _ in range(2))
        assert torch.equal(first, again)


class TestTrace:
    def test_it_is_exact_for_a_diagonal_block_by_block(self):
        entries = torch.tensor([1.0, -2.0, 4.0, 8.0, 16.0])
        signs = random_signs(6, 5, seeded())
        samples = trace_samples(signs, signs * entries, [2, 3])
        assert samples.tolist() == [[-1, 28]] * 6
        mean, error = mean_and_error(samples)
        assert mean.tolist() == [-1, 28]
        assert error.tolist() == [0, 0]

    def test_it_lies_within_three_standard_errors_of_the_whole_hessians(self, whole):
        matrix, sizes, multiply = whole
        signs = random_signs(40, sum(sizes), seeded()).double()
        samples = trace_samples(signs, multiply(signs), sizes)
        mean, error = mean_and_error(samples.sum(dim=1))
        assert 0 < error < matrix.trace()
        assert (mean - matrix.trace()).abs() < 3 * error
        blocks = torch.stack([part.sum() for part in matrix.diagonal().split(sizes)])
        means, errors = mean_and_error(samples)
        assert ((means - blocks).abs() < 3 * errors).all()

    def test_its_standard_error_is_the_spread_of_repeated_estimates(self):
        matrix = torch.randn(30, 30, generator=seeded(), dtype=torch.float64)
        matrix = matrix + matrix.T
        generator = seeded(1)
        means, errors = [], []
        for _ in range(400):
            signs = random_signs(10, 30, generator).double()
            mean, error = mean_and_error(trace_samples(signs, signs @ matrix, [30])[:, 0])
            means.append(mean.item())
            errors.append(error.item())
        assert np.mean(means) == pytest.approx(matrix.trace().item(), abs=3 * np.std(means) / 20)
        assert np.std(means) == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=0.1)

    def test_signs_are_even_and_the_seed_decides(self):
        signs = random_signs(100, 1000, seeded())
        assert signs.unique().tolist() == [-1, 1]
        assert signs.mean().abs() < 3 / 100000**0.5
        assert torch.equal(signs, random_signs(100, 1000, seeded()))
        assert not torch.equal(signs, random_signs(100, 1000, seeded(1)))

    def test_one_vector_has_no_error(self):
        mean, error = mean_and_error(torch.tensor([3.0]))
        assert (mean.item(), error.isnan().item()) == (3, True)
