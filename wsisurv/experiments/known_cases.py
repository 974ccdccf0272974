"""Cases of another cohort that a student was trained on: figures on them would flatter it."""

from pathlib import Path

from wsisurv.cohort import Case, Cohort, read_cohort
from wsisurv.errors import CohortError, some
from wsisurv.formats.guidance import read_guidance


def without_known(cohort: Cohort, student: Path, *, drop: bool) -> tuple[Cohort, tuple[str, ...]]:
    """The cohort without cases that the student was trained on, as far as that can be known, and warnings.

    Args:
        cohort: the other one.
        student: the student's file; cohort.csv and guidance.h5 beside it say what it was trained on.
        drop: leave such cases out, instead of stopping.

    Raises:
        CohortError: there are such cases and they are not to be dropped, or none is left.
    """
    beside = student.parent
    trained = training_cases(student)
    known_cases = {str(one.case_id) for one in trained}
    known_slides = {str(slide_id) for one in trained for slide_id in one.slide_ids}
    if (beside / "guidance.h5").exists():
        known_cases |= set(read_guidance(beside / "guidance.h5")[0].case_ids)
    if not known_cases:
        why = "neither cohort.csv nor guidance.h5 lies beside the student"
        return cohort, (f"whether cases of the training cohort are among these can't be known: {why}",)
    again = [
        str(one.case_id)
        for one in cohort.cases
        if str(one.case_id) in known_cases or known_slides.intersection(map(str, one.slide_ids))
    ]
    if not again:
        return cohort, ()
    if not drop:
        raise CohortError(
            f"{len(again)} of {len(cohort.cases)} cases were in the student's training ({some(again)}): figures on "
            "them would flatter it. Leave them out with --drop-known, or judge the training cohort by `wsisurv "
            "crossval`."
        )
    left = tuple(one for one in cohort.cases if str(one.case_id) not in set(again))
    if not left:
        raise CohortError(f"all {len(again)} cases were in the student's training. Use `wsisurv crossval`.")
    kept = Cohort(cohort.name, left, cohort.settings)
    return kept, (f"left out, since the student was trained on them: {some(again)}",)


def training_cases(student: Path) -> tuple[Case, ...]:
    """The student's training cases, where their cohort lies beside it."""
    return read_cohort(student.parent)[0].cases if (student.parent / "cohort.csv").exists() else ()
