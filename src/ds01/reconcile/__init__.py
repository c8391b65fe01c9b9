"""The ledger against the world: what is seen of engine and GPUs decides, and nothing that runs is ever disturbed.

`observe` looks, `diff` says what is not right (pure), `apply` corrects the ledger and the CDI specs, `follow` does that
whenever the engine says that something happened.
"""
