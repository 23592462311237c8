"""Models: the network and the LightningModule that trains it."""
