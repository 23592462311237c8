"""Names of what lies in a run's folder. Nothing is imported here, as TensorBoard's process reads them too."""

STORE = "records.zarr"
"""The records."""

TIMELINE = "emergence.json"
"""When what was recorded emerged."""

THUMBNAILS, THUMBNAIL_TABLE = "stimuli.png", "stimuli.json"
"""Pictures of the stimuli, row by row in the order of the bank; and how they lie in it."""

CONFIG = "config.yaml"
"""The configuration that a fit was made with."""

FIT = "fit.json"
"""What a fit keeps of itself when it ends: steps, seconds, costs, versions."""
