"""Who may hold which GPU device, and until when.

`decide` is pure: a request and a picture of all devices go in, a grant or a refusal comes out. `Allocator` makes the
picture, the decision and the grant in one transaction of the ledger.
"""
