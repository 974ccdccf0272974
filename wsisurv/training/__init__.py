"""Steps 4 and 5: the teacher, and the student distilled from it."""
