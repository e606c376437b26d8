"""acoupi as its makers publish it, for `tests/test_acoupi.py`; `acoupi.lock` says which version."""
