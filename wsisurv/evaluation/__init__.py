"""Honest comparison: intervals, controls, figures."""
