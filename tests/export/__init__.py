"""Exports from a journal, compared with what was put into it."""
