"""Whether a network learns lazily or richly: its tangent kernel, and what its weights have changed by.

A network is lazy as long as it is its own linearisation about where it began: its tangent kernel, the inner products of
the gradients of its outputs (Jacot et al. 2018, *Neural tangent kernel*), stays what it was, and training fits a fixed
kernel to the labels (Chizat et al. 2019, *On lazy training in differentiable programming*). Where it builds features,
the kernel changes (Fort et al. 2020, *Deep learning versus kernel learning*), and what tells tokens apart gets a larger
share of it (Baratin et al. 2021, *Implicit regularization via neural feature alignment*).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lightning_emerge.measures.geometry import add_products
from lightning_emerge.measures.linear import eigenvalues, wide
from lightning_emerge.records import as_stored

ROOM = 2**27
"""Numbers of gradients that are held at once, at most: 512 MB in float32."""


def tangent_kernels(
    answer: Callable[[int], Tensor], weights: Sequence[Tensor], stimuli: int, room: int = ROOM
) -> Float[Tensor, "layer output output_b stimulus stimulus_b"]:
    """Computes the tangent kernel of each weight: inner products of outputs' gradients with respect to it.

    That of the network, as far as it is made of these weights, is their sum. Gradients are taken less their mean over
    stimuli, output by output, which no alignment of kernels depends on, so that no digits are lost to what all stimuli
    share. Weights of which not all gradients fit into `room` are gone through in pieces, each with passes of its own.

    Args:
        answer: gives the outputs (output,) of one stimulus by its number; they can be differentiated.
        weights: to differentiate with respect to.
        stimuli: how many.
        room: numbers of gradients that are held at once.

    Returns:
        In float64 where the device has it; 0 for a weight that the outputs do not depend on.
    """
    kernels: Tensor | None = None
    rows = stimuli * len(answer(0))
    for piece in _pieces([weight.numel() for weight in weights], max(1, room // rows)):
        own = [weights[number] for number, _ in piece]
        held = _gradients(answer, own, [part for _, part in piece], stimuli)
        for (number, _), gradients in zip(piece, held, strict=True):
            kernel = _products(gradients)
            kernels = kernel.new_zeros(len(weights), *kernel.shape) if kernels is None else kernels
            kernels[number] += kernel
    assert kernels is not None
    return kernels


def mix_outputs(count: int, most: int, seed: int = 0) -> Float[Tensor, "mixed output"] | None:
    """Gives weights by which many outputs are added up to a few, so that each gradient of these is of all outputs.

    Signs are sampled, the same ones for a seed, and scaled so that the kernel of a mixture is on average the mean of
    those of the outputs. Mohamadi et al. (2023), *A fast, well-founded approximation to the empirical neural tangent
    kernel*, add up all outputs with one sign.

    Returns:
        None if there are no more outputs than are wanted.
    """
    if count <= most:
        return None
    signs = torch.randint(0, 2, (most, count), generator=torch.Generator().manual_seed(seed))
    return (2.0 * signs - 1) / count**0.5


def token_kernel(
    labels: Int[Tensor, " stimulus"], like: Float[Tensor, "output output_b stimulus stimulus_b"]
) -> Float[Tensor, "output output_b stimulus stimulus_b"]:
    """Gives the kernel of a network that knows tokens and nothing else: 1 for stimuli of one token, output by output.

    Cristianini et al. (2001), *On kernel-target alignment*.

    Args:
        labels: token of each stimulus.
        like: a kernel of as many outputs.
    """
    same = (labels[:, None] == labels[None, :]).to(like)
    return torch.eye(len(like)).to(like)[:, :, None, None] * same


def effective_rank(update: Float[Tensor, "filter ..."]) -> Float[Tensor, ""]:
    """Computes the effective rank of what a weight has changed by, over the largest that it can have.

    Roy & Vetterli (2007), *The effective rank: a measure of effective dimensionality*: the exponential of the entropy
    of the singular values, brought to a sum of 1, of the matrix whose rows are filters.

    Returns:
        Near 0 (one direction) to 1 (all alike); NaN if nothing has changed.
    """
    matrix = wide(update.flatten(1))
    least = min(matrix.shape)
    square = matrix @ matrix.T if matrix.shape[0] == least else matrix.T @ matrix
    values = eigenvalues(square).clamp(min=0).sqrt()
    shares = values / values.sum()
    return torch.where(shares > 0, -shares * shares.log(), shares).sum().exp() / least


def spread_stimuli(labels: Int[Tensor, " stimulus"], most: int) -> Int[Tensor, " chosen"]:
    """Chooses some stimuli, as many of each token as can be, and evenly over each token's exemplars."""
    order = labels.argsort(stable=True)
    count = min(most, len(order))
    return order[((torch.arange(count) + 0.5) * (len(order) / max(1, count))).long()]


def _gradients(
    answer: Callable[[int], Tensor], weights: Sequence[Tensor], parts: Sequence[slice], stimuli: int
) -> list[Float[Tensor, "stimulus output part"]]:
    """Gradients of each output of each stimulus with respect to parts of weights."""
    held: list[Tensor] = []
    for stimulus in range(stimuli):
        outputs = answer(stimulus)
        for number, output in enumerate(outputs):
            found = torch.autograd.grad(
                output, weights, retain_graph=number + 1 < len(outputs), materialize_grads=True, allow_unused=True
            )
            rows = [as_stored(own).flatten()[part].float() for own, part in zip(found, parts, strict=True)]
            held = held or [row.new_empty(stimuli, len(outputs), len(row)) for row in rows]
            for room, row in zip(held, rows, strict=True):
                room[stimulus, number] = row
    return held


def _products(gradients: Float[Tensor, "stimulus output part"]) -> Tensor:
    """Inner products of gradients about their mean over stimuli, which are written over."""
    flat, size = gradients.sub_(gradients.mean(dim=0)).flatten(0, 1), gradients.shape[:2]
    products = flat.new_zeros(len(flat), len(flat))
    add_products(products, flat)
    return wide(products.triu() + products.triu(1).T).view(*size, *size).permute(1, 3, 0, 2)


def _pieces(sizes: Sequence[int], most: int) -> Iterator[list[tuple[int, slice]]]:
    """Parts of weights, so many numbers at once."""
    piece: list[tuple[int, slice]] = []
    left = most
    for number, size in enumerate(sizes):
        start = 0
        while start < size:
            stop = min(size, start + left)
            piece.append((number, slice(start, stop)))
            left, start = left - (stop - start), stop
            if not left:
                yield piece
                piece, left = [], most
    if piece:
        yield piece
