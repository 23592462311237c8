"""The board: how a run is looked at in TensorBoard."""
