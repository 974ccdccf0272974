from pathlib import Path

import pytest

from wsisurv.demo import cohort as cohort_module
from wsisurv.demo.cohort import DemoCohort, make_cohort
from wsisurv.demo.population import simulate_population

CASES, SEED = 25, 3  # the fewest cases
PLACEHOLDER = b"whole already"


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoCohort:
    """A small cohort, drawn in this process; read it, don't change it.

    One case a hospital has real slides; the others' are placeholders that were there before, and so are kept.
    """
    folder = tmp_path_factory.mktemp("demo")
    seen = set()
    for case in simulate_population(CASES, SEED):
        if case.hospital in seen:
            for slide_id in case.slide_ids:
                path = folder / ("heldout/slides" if case.held_out else "slides") / f"{slide_id}.tiff"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(PLACEHOLDER)
        seen.add(case.hospital)
    return make_cohort(folder, cases=CASES, seed=SEED)


@pytest.fixture(scope="session")
def drawn_slides(demo: DemoCohort) -> list[Path]:
    """The slides of ``demo`` that are real, one case a hospital."""
    paths = [path for path in demo.folder.rglob("*.tiff") if path.stat().st_size > len(PLACEHOLDER)]
    assert len(paths) >= 5
    return sorted(paths)


@pytest.fixture
def without_slides(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Slides are empty files: for tests of everything else. Gives the paths asked for."""
    asked: list[Path] = []

    def empty(path: Path, *_: object, **__: object) -> None:
        asked.append(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"slide")

    monkeypatch.setattr(cohort_module, "make_slide", empty)
    return asked
