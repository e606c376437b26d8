"""Saving what a damaged journal still holds."""
