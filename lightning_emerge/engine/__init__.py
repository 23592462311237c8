"""The engine: runs all probes of a fit or a replay, and writes what they find beside it."""
