"""A simulated GPU server: `libnvidia-ml.so.1` as real tools load it, and what happens to the server from outside."""

from .control import Layout, NvmlsimError, Server, models, server

__all__ = ["Layout", "NvmlsimError", "Server", "models", "server"]
