"""DS01: one policy file makes a shared GPU lab out of one server."""

__version__ = "0.1.0"
