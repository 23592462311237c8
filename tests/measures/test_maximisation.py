"""Activation maximisation on planted detectors, closed forms, dead filters and a null."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d, unfold

from lightning_emerge.measures import maximisation as maximising
from lightning_emerge.measures.maximisation import find_palette, maximise

SIDE = 24


def make_bank(channels: int = 3, low: float = -2.0, high: float = 2.0) -> torch.Tensor:
    """Images whose channels vary together, within a range that they fill."""
    random = torch.Generator().manual_seed(0)
    grey, colour = (torch.rand(30, count, SIDE, SIDE, generator=random) for count in (1, channels))
    shares = 0.8 * grey + 0.2 * colour
    shares = (shares - shares.min()) / (shares.max() - shares.min())
    return low + (high - low) * shares


def bar() -> torch.Tensor:
    """A vertical bar of 3 x 9 pixels; it adds up to zero."""
    kernel = torch.full((9, 9), -0.5)
    kernel[:, 3:6] = 1
    return kernel


def detector(*kernels: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """Rectified units in the middle of the image that see its mean over channels."""
    weight = torch.stack(kernels)[:, None]

    def respond(images: torch.Tensor) -> torch.Tensor:
        outputs = conv2d(images.mean(dim=1, keepdim=True), weight, padding=4).relu()
        return outputs[..., SIDE // 2, SIDE // 2]

    return respond


def likeness(image: torch.Tensor, kernel: torch.Tensor, shift: int = 3) -> float:
    """Largest correlation of a kernel with what is near the middle of an image."""
    grey = image.mean(dim=0)
    low, high = SIDE // 2 - 4 - shift, SIDE // 2 + 5 + shift
    patches = unfold(grey[None, None, low:high, low:high], 9)[0].T
    return max(np.corrcoef(patch, kernel.flatten())[0, 1] for patch in patches)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_image_of_a_bar_detector_is_the_bar_and_that_of_a_random_filter_is_not(channels):
    bank = make_bank(channels)
    noise = torch.randn(9, 9, generator=torch.Generator().manual_seed(1))
    found = maximise(detector(bar(), noise, bar().T), bank[:3], find_palette(bank))
    assert likeness(found.images[0], bar()) > 0.7
    # The largest of 49 shifts is above 0 by chance.
    assert likeness(found.images[1], bar()) < 0.6
    assert likeness(found.images[2], bar()) < 0.6
    assert likeness(found.images[2], bar().T) > 0.7


def test_it_beats_every_exemplar_by_far():
    bank, respond = make_bank(), detector(bar(), -bar())
    best, chosen = respond(bank).max(dim=0)
    found = maximise(respond, bank[chosen], find_palette(bank))
    assert (found.activations > 3 * best).all()
    torch.testing.assert_close(found.activations, respond(found.images).diagonal())
    assert found.begun.tolist() == [0, 0]


@pytest.mark.parametrize(("low", "high"), [(-2.0, 2.0), (0.0, 1.0), (0.0, 255.0), (-1e-3, 5e-3)])
def test_images_stay_in_the_banks_range_whatever_its_normalisation(low, high):
    bank = make_bank(low=low, high=high)
    found = maximise(detector(bar()), bank[:1], find_palette(bank), iterations=40)
    assert low <= found.images.min() < found.images.max() <= high
    shares = (found.images - low) / (high - low)
    plain = make_bank(low=0, high=1)
    expected = maximise(detector(bar()), plain[:1], find_palette(plain), iterations=40)
    torch.testing.assert_close(shares, expected.images, rtol=0, atol=0.02)


@pytest.mark.parametrize("scale", [1e-20, 1e-6, 1e6])
def test_how_large_activations_are_does_not_matter(scale):
    bank, respond = make_bank(), detector(bar())
    palette = find_palette(bank)
    found = maximise(lambda images: scale * respond(images), bank[:1], palette, iterations=10)
    expected = maximise(respond, bank[:1], palette, iterations=10)
    torch.testing.assert_close(found.images, expected.images, rtol=0, atol=1e-3)


def test_same_seed_same_images_and_another_seed_others():
    bank, respond = make_bank(), detector(bar(), bar().T)
    palette = find_palette(bank)
    torch.rand(3)  # the global stream does not matter
    state = torch.get_rng_state()
    first, second, other = (maximise(respond, bank[:2], palette, iterations=5, seed=seed) for seed in (4, 4, 5))
    assert torch.equal(first.images, second.images)
    assert not torch.allclose(first.images, other.images, atol=0.05)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_filters_image_does_not_depend_on_which_others_are_looked_at():
    bank = make_bank()
    palette = find_palette(bank)
    alone = maximise(detector(bar()), bank[:1], palette, iterations=10)
    beside = maximise(detector(torch.zeros(9, 9), bar(), bar().T), bank[:3], palette, iterations=10)
    torch.testing.assert_close(beside.images[1], alone.images[0], rtol=0, atol=1e-4)


def test_a_filter_that_nothing_excites_is_known_by_its_start_and_others_are_not_disturbed():
    bank = make_bank()
    dead = -torch.ones(9, 9)
    found = maximise(detector(dead, bar()), bank[:2].add(2), find_palette(bank.add(2)), iterations=20)
    assert found.begun.isnan().tolist() == [True, False]
    assert found.activations[0] == 0
    assert likeness(found.images[1], bar()) > 0.7
    found = maximise(detector(dead), bank[:1].add(2), find_palette(bank.add(2)))
    assert found.begun.isnan().all()


def test_a_filter_that_noise_does_not_excite_begins_as_its_exemplar():
    bank = make_bank()
    bank[0, :, 8:17, 8:17] = torch.where(bar() > 0, 2.0, -2.0)
    respond = detector(bar())
    threshold = 0.5 * respond(bank).max()

    def fussy(images: torch.Tensor) -> torch.Tensor:
        return (respond(images) - threshold).relu()

    found = maximise(fussy, bank[:1], find_palette(bank), iterations=20)
    assert found.begun.tolist() == [1]
    assert found.activations[0] > 0


def test_a_start_below_zero_wakes_a_filter_that_the_noise_silences():
    bank, palette = make_bank(), find_palette(make_bank())
    flipped = [maximise(detector(kernel), bank[:1], palette, iterations=1).begun for kernel in (bar(), -bar())]
    assert [begun.tolist() for begun in flipped] == [[0], [0]]


def test_a_network_that_is_not_finite_gives_nan_and_no_error():
    bank = make_bank()
    respond = detector(bar())
    found = maximise(lambda images: respond(images) * torch.nan, bank[:1], find_palette(bank), iterations=2)
    assert found.begun.isnan().all()
    assert found.activations.isnan().all()


def test_weights_get_no_gradients():
    weight = torch.randn(1, 3, 5, 5, generator=torch.Generator().manual_seed(2), requires_grad=True)
    weight.register_hook(lambda gradient: pytest.fail("differentiated by a weight"))
    bank = make_bank()
    maximise(lambda x: conv2d(x, weight).mean(dim=(2, 3)), bank[:1], find_palette(bank), iterations=2)
    assert weight.grad is None


def test_the_palette_holds_the_banks_ranges_means_and_covariance():
    bank = make_bank(low=1, high=5)
    palette = find_palette(bank)
    pixels = bank.transpose(0, 1).flatten(1)
    torch.testing.assert_close(palette.low, pixels.amin(dim=1))
    torch.testing.assert_close(palette.low + palette.reach, pixels.amax(dim=1))
    shares = (pixels - palette.low[:, None]) / palette.reach[:, None]
    torch.testing.assert_close(palette.centre.sigmoid(), shares.mean(dim=1), rtol=1e-4, atol=1e-4)
    covariance = np.cov(shares.double().numpy())
    expected = covariance / np.trace(covariance) * 3
    np.testing.assert_allclose(palette.root @ palette.root.T, expected, rtol=0, atol=2e-2)  # small ones are raised


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_bank_without_variation_has_a_palette(value):
    bank = torch.full((4, 3, 8, 8), value)
    palette = find_palette(bank)
    assert all(part.isfinite().all() for part in vars(palette).values())
    torch.testing.assert_close(palette.root, torch.eye(3))
    found = maximise(lambda images: images.mean(dim=(2, 3)), bank[:3], palette, iterations=2)
    assert found.images.isfinite().all()


@pytest.mark.parametrize("size", [(8, 8), (9, 7), (16, 5)])
def test_amplitudes_of_an_image_give_it_back(size):
    bank = torch.rand(6, 3, *size, generator=torch.Generator().manual_seed(3)) * 0.9 + 0.05
    palette = find_palette(torch.cat([bank, torch.zeros(1, 3, *size), torch.ones(1, 3, *size)]))
    waves = maximising._Waves(palette, size)
    torch.testing.assert_close(waves.images(waves.amplitudes(bank)), bank, rtol=0, atol=1e-4)


def test_transforms_move_little_and_read_what_is_there():
    grids = torch.cat(maximising._transforms((SIDE, SIDE), 200, torch.Generator().manual_seed(0)))
    middle = grids.mean(dim=(1, 2)) * SIDE / 2
    assert middle.abs().max() <= SIDE / 16 + 1e-4
    assert middle.std() > 0.5
    still = maximising.affine_grid(torch.eye(2, 3)[None], [1, 1, SIDE, SIDE], align_corners=False)
    images = make_bank()[:2]
    torch.testing.assert_close(maximising._sample(images, still), images, rtol=0, atol=1e-5)


def test_there_is_at_least_one_iteration():
    bank = make_bank()
    with pytest.raises(ValueError, match=r"at least 1 iteration; got 0\."):
        maximise(detector(bar()), bank[:1], find_palette(bank), iterations=0)
