"""The data package that ecologists hand to repositories such as GBIF; docs/export.md says more."""
