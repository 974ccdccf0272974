"""The synthetic cohort: slides that OpenSlide opens, reports and follow-up."""
