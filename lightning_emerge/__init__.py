"""Shows how a network comes to know what it knows: a Lightning training framework with probes as callbacks."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_emerge.analysis.ablation import ablation_table
    from lightning_emerge.analysis.construction import construction_leads, construction_order
    from lightning_emerge.analysis.coupling import coupling_graph, coupling_statistics, write_graphml
    from lightning_emerge.analysis.effects import least_auc, least_share
    from lightning_emerge.analysis.embedding import embed_run
    from lightning_emerge.analysis.emergence_time import emergence_time, lead_time
    from lightning_emerge.analysis.geometry import step_cka, to_rsatoolbox
    from lightning_emerge.analysis.names import name_filters
    from lightning_emerge.analysis.order import compare_order
    from lightning_emerge.analysis.recovery import grammar_recovery
    from lightning_emerge.analysis.timeline import draw_timeline, run_timeline
    from lightning_emerge.callbacks.checkpoints import Checkpoints
    from lightning_emerge.callbacks.confusion import ConfusionPicture
    from lightning_emerge.callbacks.contact import ContactSheet
    from lightning_emerge.callbacks.frozen import FrozenLayers
    from lightning_emerge.data.grammars import read_grammar
    from lightning_emerge.data.nuisances import Nuisances
    from lightning_emerge.data.photographs import FolderDataModule
    from lightning_emerge.data.stimuli import Stimuli
    from lightning_emerge.data.synthetic import TokenDataModule
    from lightning_emerge.data.tokens import Grammar, Part, Token
    from lightning_emerge.data.vision import VisionDataModule
    from lightning_emerge.models.classifier import TokenClassifier
    from lightning_emerge.models.vgg import VGG
    from lightning_emerge.probe import Probe
    from lightning_emerge.probes.ablation import AblationProbe
    from lightning_emerge.probes.category import CategoryProbe
    from lightning_emerge.probes.coupling import CouplingProbe
    from lightning_emerge.probes.curvature import CurvatureProbe
    from lightning_emerge.probes.embedding import EmbeddingProbe
    from lightning_emerge.probes.exemplars import TopExemplarProbe
    from lightning_emerge.probes.filters import FilterProbe
    from lightning_emerge.probes.gradient import GradientProbe
    from lightning_emerge.probes.gradient_noise import GradientNoiseProbe
    from lightning_emerge.probes.maximisation import MaximisationProbe
    from lightning_emerge.probes.parts import PartProbe
    from lightning_emerge.probes.similarity import SimilarityProbe
    from lightning_emerge.probes.token_gradient import TokenGradientProbe
    from lightning_emerge.records import (
        Axis,
        Capture,
        Convolution,
        Measurement,
        Needs,
        Network,
        Past,
        ReceptiveField,
        Record,
        StimulusBank,
    )
    from lightning_emerge.report.make import make_report
    from lightning_emerge.report.write import write_report
    from lightning_emerge.schedules import AnyOf, At, Epochs, EverySteps, LogSpaced, Schedule
    from lightning_emerge.sinks.arrays import open_run

_HOMES = {
    "AblationProbe": "probes.ablation",
    "AnyOf": "schedules",
    "At": "schedules",
    "Axis": "records",
    "Capture": "records",
    "CategoryProbe": "probes.category",
    "Checkpoints": "callbacks.checkpoints",
    "ConfusionPicture": "callbacks.confusion",
    "ContactSheet": "callbacks.contact",
    "Convolution": "records",
    "CouplingProbe": "probes.coupling",
    "CurvatureProbe": "probes.curvature",
    "EmbeddingProbe": "probes.embedding",
    "Epochs": "schedules",
    "EverySteps": "schedules",
    "FilterProbe": "probes.filters",
    "FolderDataModule": "data.photographs",
    "FrozenLayers": "callbacks.frozen",
    "GradientNoiseProbe": "probes.gradient_noise",
    "GradientProbe": "probes.gradient",
    "Grammar": "data.tokens",
    "LogSpaced": "schedules",
    "MaximisationProbe": "probes.maximisation",
    "Measurement": "records",
    "Needs": "records",
    "Network": "records",
    "Nuisances": "data.nuisances",
    "Part": "data.tokens",
    "PartProbe": "probes.parts",
    "Past": "records",
    "Probe": "probe",
    "ReceptiveField": "records",
    "Record": "records",
    "Schedule": "schedules",
    "SimilarityProbe": "probes.similarity",
    "Stimuli": "data.stimuli",
    "StimulusBank": "records",
    "Token": "data.tokens",
    "TokenClassifier": "models.classifier",
    "TokenDataModule": "data.synthetic",
    "TokenGradientProbe": "probes.token_gradient",
    "TopExemplarProbe": "probes.exemplars",
    "VGG": "models.vgg",
    "VisionDataModule": "data.vision",
    "ablation_table": "analysis.ablation",
    "compare_order": "analysis.order",
    "construction_leads": "analysis.construction",
    "construction_order": "analysis.construction",
    "coupling_graph": "analysis.coupling",
    "coupling_statistics": "analysis.coupling",
    "draw_timeline": "analysis.timeline",
    "embed_run": "analysis.embedding",
    "emergence_time": "analysis.emergence_time",
    "grammar_recovery": "analysis.recovery",
    "lead_time": "analysis.emergence_time",
    "least_auc": "analysis.effects",
    "least_share": "analysis.effects",
    "make_report": "report.make",
    "name_filters": "analysis.names",
    "open_run": "sinks.arrays",
    "read_grammar": "data.grammars",
    "run_timeline": "analysis.timeline",
    "step_cka": "analysis.geometry",
    "to_rsatoolbox": "analysis.geometry",
    "write_graphml": "analysis.coupling",
    "write_report": "report.write",
}

__all__ = [
    "VGG",
    "AblationProbe",
    "AnyOf",
    "At",
    "Axis",
    "Capture",
    "CategoryProbe",
    "Checkpoints",
    "ConfusionPicture",
    "ContactSheet",
    "Convolution",
    "CouplingProbe",
    "CurvatureProbe",
    "EmbeddingProbe",
    "Epochs",
    "EverySteps",
    "FilterProbe",
    "FolderDataModule",
    "FrozenLayers",
    "GradientNoiseProbe",
    "GradientProbe",
    "Grammar",
    "LogSpaced",
    "MaximisationProbe",
    "Measurement",
    "Needs",
    "Network",
    "Nuisances",
    "Part",
    "PartProbe",
    "Past",
    "Probe",
    "ReceptiveField",
    "Record",
    "Schedule",
    "SimilarityProbe",
    "Stimuli",
    "StimulusBank",
    "Token",
    "TokenClassifier",
    "TokenDataModule",
    "TokenGradientProbe",
    "TopExemplarProbe",
    "VisionDataModule",
    "ablation_table",
    "compare_order",
    "construction_leads",
    "construction_order",
    "coupling_graph",
    "coupling_statistics",
    "draw_timeline",
    "embed_run",
    "emergence_time",
    "grammar_recovery",
    "lead_time",
    "least_auc",
    "least_share",
    "make_report",
    "name_filters",
    "open_run",
    "read_grammar",
    "run_timeline",
    "step_cka",
    "to_rsatoolbox",
    "write_graphml",
    "write_report",
]


def __getattr__(name: str) -> Any:
    # Lazy, so that TensorBoard can import the package's board without importing torch.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
