"""Frozen values that cross rooms: the stimulus bank, a capture of it, a measurement and its declaration."""

from lightning_emerge.records.bank import StimulusBank, check_outputs, check_pictured
from lightning_emerge.records.capture import (
    Capture,
    Convolution,
    FirstLook,
    History,
    OpenNetwork,
    PastLook,
    ReceptiveField,
    name_finder,
)
from lightning_emerge.records.declared import Record, check_declared
from lightning_emerge.records.measurement import Axis, FloatArray, Label, Measurement, Pixels, Range
from lightning_emerge.records.task import Task
from lightning_emerge.records.tensors import as_stored, pool, to_array, widest

__all__ = [
    "Axis",
    "Capture",
    "Convolution",
    "FirstLook",
    "FloatArray",
    "History",
    "Label",
    "Measurement",
    "OpenNetwork",
    "PastLook",
    "Pixels",
    "Range",
    "ReceptiveField",
    "Record",
    "StimulusBank",
    "Task",
    "as_stored",
    "check_declared",
    "check_outputs",
    "check_pictured",
    "name_finder",
    "pool",
    "to_array",
    "widest",
]
