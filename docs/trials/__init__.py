"""Worlds for docs/calibration.py: captures with nothing to find, with a planted effect, and what is true of each.

Truths are closed forms, or what numpy, SciPy and scikit-learn find in many more stimuli than a bank has.
"""

from __future__ import annotations

from trials.couplings import of_couplings
from trials.parts import (
    of_ablation,
    of_attributions,
    of_detectors,
    of_exemplars,
    of_maxima,
    of_parts,
    of_rival_ablation,
    of_rivals,
)
from trials.regime import of_informed_kernels, of_regime
from trials.responses import (
    of_alignment,
    of_components,
    of_dimensions,
    of_distances,
    of_geometry,
    of_outputs,
    of_responses,
    of_selectivity,
)
from trials.weights import of_curvature, of_gradients, of_noise, of_pulls, of_weights

TRIALS = (
    of_outputs,
    of_responses,
    of_dimensions,
    of_selectivity,
    of_geometry,
    of_alignment,
    of_distances,
    of_components,
    of_weights,
    of_gradients,
    of_pulls,
    of_noise,
    of_curvature,
    of_couplings,
    of_exemplars,
    of_maxima,
    of_parts,
    of_rivals,
    of_attributions,
    of_detectors,
    of_ablation,
    of_rival_ablation,
    of_regime,
    of_informed_kernels,
)

DESCRIBED = (
    "kernels",
    "top_crop",
    "top_span",
    "maximising_image",
    "begun_as_exemplar",
    "hessian_eigenvalue_error",
)
"""Records that are pictures, places, how a search began, and how far a value is off: nothing to calibrate."""
