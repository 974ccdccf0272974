"""Ids in types: a slide can't pass for a case."""

from typing import NewType

CaseId = NewType("CaseId", str)
"""One patient."""
SlideId = NewType("SlideId", str)
"""One whole-slide image: its file name without the ending."""
