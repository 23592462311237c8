"""Shows how a network comes to know what it knows: a Lightning training framework with probes as callbacks."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_emerge.data.photographs import FolderDataModule
    from lightning_emerge.data.synthetic import TokenDataModule
    from lightning_emerge.models.classifier import TokenClassifier
    from lightning_emerge.models.vgg import VGG
    from lightning_emerge.probe import Needs, Probe
    from lightning_emerge.probes.category import CategoryProbe
    from lightning_emerge.probes.confusion import ConfusionPicture
    from lightning_emerge.probes.filters import FilterProbe
    from lightning_emerge.probes.gradient import GradientProbe
    from lightning_emerge.probes.similarity import SimilarityProbe
    from lightning_emerge.records import Axis, Capture, Measurement, StimulusBank
    from lightning_emerge.schedules import AnyOf, At, EverySteps, LogSpaced, Schedule
    from lightning_emerge.sinks.arrays import open_run

_HOMES = {
    "AnyOf": "schedules",
    "At": "schedules",
    "Axis": "records",
    "Capture": "records",
    "CategoryProbe": "probes.category",
    "ConfusionPicture": "probes.confusion",
    "EverySteps": "schedules",
    "FilterProbe": "probes.filters",
    "FolderDataModule": "data.photographs",
    "GradientProbe": "probes.gradient",
    "LogSpaced": "schedules",
    "Measurement": "records",
    "Needs": "probe",
    "Probe": "probe",
    "Schedule": "schedules",
    "SimilarityProbe": "probes.similarity",
    "StimulusBank": "records",
    "TokenClassifier": "models.classifier",
    "TokenDataModule": "data.synthetic",
    "VGG": "models.vgg",
    "open_run": "sinks.arrays",
}

__all__ = [
    "VGG",
    "AnyOf",
    "At",
    "Axis",
    "Capture",
    "CategoryProbe",
    "ConfusionPicture",
    "EverySteps",
    "FilterProbe",
    "FolderDataModule",
    "GradientProbe",
    "LogSpaced",
    "Measurement",
    "Needs",
    "Probe",
    "Schedule",
    "SimilarityProbe",
    "StimulusBank",
    "TokenClassifier",
    "TokenDataModule",
    "open_run",
]


def __getattr__(name: str) -> Any:
    # Lazy, so that TensorBoard can import the package's board without importing torch.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
