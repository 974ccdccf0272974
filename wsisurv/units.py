"""Units in types: a level-0 pixel can't pass for a tile pixel, a slide for a case."""

from typing import NewType

CaseId = NewType("CaseId", str)
"""One patient."""
SlideId = NewType("SlideId", str)
"""One whole-slide image: its file name without the ending."""
Mpp = NewType("Mpp", float)
"""µm per pixel."""
Microns = NewType("Microns", float)
"""µm."""
Level0Px = NewType("Level0Px", int)
"""Pixels of the slide's finest level."""
TilePx = NewType("TilePx", int)
"""Pixels of a tile as the encoder sees it."""
