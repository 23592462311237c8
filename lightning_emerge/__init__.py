"""Shows how a network comes to know what it knows: a Lightning training framework with probes as callbacks."""

import lazy_loader

# Lazy, so that TensorBoard can import the package's board without importing torch. The names are in `__init__.pyi`.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
