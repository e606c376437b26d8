"""The data package for repositories such as GBIF, in the form Camtrap DP; see docs/export.md."""
