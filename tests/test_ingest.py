"""The first half at its limits: a real broker, a real journal, no room."""
