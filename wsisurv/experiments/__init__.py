"""Experiments: crossval, ablate and external validation run the steps and say what they show."""
