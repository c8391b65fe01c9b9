"""The Docker API gateway: judges every request to the engine and sends on its own, never the client's bytes."""
