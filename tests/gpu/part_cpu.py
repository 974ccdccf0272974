"""Beside the other parts, on the CPU: the trainings that the card is compared with."""

from cohorts import distill_words, shared_cohort, summary_of, teacher_words, twin
from parts import begin, wsisurv

sizes, figures, scratch = begin()
alone = sizes.device != "cpu"  # a dry run saves the time of imports
with figures.timed("making_the_cohort"):
    shared = shared_cohort(scratch, sizes)
workspace = twin(shared, "cpu")
with figures.timed("teacher"):
    wsisurv(*teacher_words(workspace, sizes, "cpu", sizes.epochs), alone=alone)
with figures.timed("distill"):
    wsisurv(*distill_words(workspace, sizes, "cpu", sizes.epochs), alone=alone)
figures.add(**summary_of(workspace))
