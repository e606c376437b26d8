"""How our processes begin, log and end, and how orphans of an earlier run are found."""
