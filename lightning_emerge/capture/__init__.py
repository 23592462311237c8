"""Hooks: a network and the stimulus bank in, activations out. The only place where hooks live."""

from lightning_emerge.capture.bank import Pass, first_stimuli, run_bank
from lightning_emerge.capture.convolutions import describe_convolution, find_convolution, is_convolution
from lightning_emerge.capture.filters import refuse_filters
from lightning_emerge.capture.firing import Firing
from lightning_emerge.capture.layers import (
    default_layers,
    find_layers,
    find_weights,
    match_layers,
    spaced_convolutions,
)
from lightning_emerge.capture.leaves import find_leaves
from lightning_emerge.capture.network import LiveNetwork, open_network
from lightning_emerge.capture.processes import add_up, agree, gather, is_process_zero

__all__ = [
    "Firing",
    "LiveNetwork",
    "Pass",
    "add_up",
    "agree",
    "default_layers",
    "describe_convolution",
    "find_convolution",
    "find_layers",
    "find_leaves",
    "find_weights",
    "first_stimuli",
    "gather",
    "is_convolution",
    "is_process_zero",
    "match_layers",
    "open_network",
    "refuse_filters",
    "run_bank",
    "spaced_convolutions",
]
