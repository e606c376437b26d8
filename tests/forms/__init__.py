"""Tests of forms in files."""
