"""Pixels: the only room that opens slides."""
