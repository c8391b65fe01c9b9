"""Tell people: the one way out for what the ledger holds for them (`ds01.ledger.lifecycle.tell`).

Terminal, container, e-mail, Teams; at the next login `ds01 notices --new` shows the same. `dispatch` decides what goes
when, each channel has its own file.
"""
