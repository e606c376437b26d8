"""The crash run: real processes, killed and cut off at seeded moments, reconciled to the message.

`faults` plans, `messages` says what devices send, `devices` publish it and remember every answer,
`tests.proxy` and `programs` are what breaks, `run` puts them together and leaves `evidence`, which
`reconcile` judges.
"""
