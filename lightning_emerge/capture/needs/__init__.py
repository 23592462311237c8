"""What probes can ask for, one a file. A need of your own is one more class like these, wherever it lives."""

from lightning_emerge.capture.needs.activations import Activations
from lightning_emerge.capture.needs.bank_gradients import BankGradients
from lightning_emerge.capture.needs.base import Need
from lightning_emerge.capture.needs.features import Features
from lightning_emerge.capture.needs.filters import Filters
from lightning_emerge.capture.needs.followers import Followers
from lightning_emerge.capture.needs.gradient_squares import GradientSquares
from lightning_emerge.capture.needs.images import Images
from lightning_emerge.capture.needs.inputs import Inputs
from lightning_emerge.capture.needs.latents import Latents
from lightning_emerge.capture.needs.network import Network
from lightning_emerge.capture.needs.outputs import Outputs
from lightning_emerge.capture.needs.pairs import Pairs
from lightning_emerge.capture.needs.past import Past
from lightning_emerge.capture.needs.pooled import Pooled
from lightning_emerge.capture.needs.rows import Rows
from lightning_emerge.capture.needs.start import Start
from lightning_emerge.capture.needs.sums import Sums
from lightning_emerge.capture.needs.token_gradients import TokenGradients
from lightning_emerge.capture.needs.training import Training
from lightning_emerge.capture.needs.weights import Weights

__all__ = [
    "Activations",
    "BankGradients",
    "Features",
    "Filters",
    "Followers",
    "GradientSquares",
    "Images",
    "Inputs",
    "Latents",
    "Need",
    "Network",
    "Outputs",
    "Pairs",
    "Past",
    "Pooled",
    "Rows",
    "Start",
    "Sums",
    "TokenGradients",
    "Training",
    "Weights",
]
