"""Names of what lies in a run's folder. Nothing is imported here, as TensorBoard's process reads them too."""

STORE = "records.zarr"
"""The records."""

TIMELINE = "emergence.json"
"""When what was recorded emerged."""

THUMBNAILS, THUMBNAIL_TABLE = "stimuli.png", "stimuli.json"
"""Pictures of the stimuli, row by row in the order of the bank; and how they lie in it."""
