"""Smaller numbers for a student, one file a form: what it takes is exported and trained, what it gives is a file."""
