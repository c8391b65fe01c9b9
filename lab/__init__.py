"""The lab: a whole DS01 server on one's own machine, for trying out and for tests."""
