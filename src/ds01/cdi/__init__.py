"""Which GPU devices a container gets at its start: one CDI spec for each claim, made from NVIDIA's own spec.

The engine resolves `ds01.io/gpu=<token>` at every start, so the file decides, and without one nothing starts.
"""
