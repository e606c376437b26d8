"""What is taken out of a journal, held against what was put into it."""
