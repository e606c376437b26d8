"""How our processes begin, log, replace files and end, and how orphans of an earlier run end."""
