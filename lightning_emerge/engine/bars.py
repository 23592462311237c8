"""How far something is: a line in a terminal, and in a notebook that has widgets a widget."""

from importlib.util import find_spec

if find_spec("ipywidgets") is not None:  # without them tqdm would warn in a notebook
    from tqdm.auto import tqdm
else:
    from tqdm import tqdm

__all__ = ["tqdm"]
