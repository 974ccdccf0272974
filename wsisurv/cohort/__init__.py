"""Clinical table → cohort: cases with follow-up, their slides and reports, and the audit of what was left out."""

from wsisurv.cohort.cases import Audit, Case, Clinical, Cohort, Dropped, cause_of, entry_of
from wsisurv.cohort.clinical import read_case_ids, read_clinical
from wsisurv.cohort.endpoints import make_endpoints, with_all_endpoints
from wsisurv.cohort.files import make_cohort, read_cohort, recount_reports, save_cohort, write_cohort
from wsisurv.cohort.matching import build_cohort, map_slides, match_case, read_slide_map
from wsisurv.formats.tables import read_table

__all__ = [
    "Audit",
    "Case",
    "Clinical",
    "Cohort",
    "Dropped",
    "build_cohort",
    "cause_of",
    "entry_of",
    "make_cohort",
    "make_endpoints",
    "map_slides",
    "match_case",
    "read_case_ids",
    "read_clinical",
    "read_cohort",
    "read_slide_map",
    "read_table",
    "recount_reports",
    "save_cohort",
    "with_all_endpoints",
    "write_cohort",
]
