"""Every error that wsisurv raises on purpose.

    WsisurvError
    ├ SettingsError              a setting that can't be, or contradicts another (exit code 2)
    ├ InputError                 something the user brought
    │  ├ SlideError              a slide that can't be opened, read or placed on a scale
    │  │  ├ MissingMppError      no resolution in the file
    │  │  ├ DuplicateSlideError  two files of one slide_id
    │  │  └ NoSlidesError        nothing to work on
    │  ├ ReportError             a report file that can't be read
    │  └ CohortError             a clinical table, or its match with slides and reports
    ├ ArtifactError              something in the workspace
    │  ├ FormatError             not the file that it should be, or damaged
    │  │  ├ OlderFormatError     of an older wsisurv, in a format that is not read any more
    │  │  └ NewerFormatError     of a newer wsisurv: never written over
    │  ├ BusyError               another process is at it now (exit code 3)
    │  ├ SharesLeftError         this share is done, and others of an array are not yet (no failure)
    │  ├ MissingArtifactError    an earlier step has not been run
    │  ├ StaleError              made with other settings or from other inputs
    │  ├ EncoderMismatchError    features of another encoder than the model's
    │  └ StorageError            no room, no permission: the file could not be written
    ├ BackendError               a program or file that wsisurv relies on
    │  ├ OllamaUnavailableError  no server answers, or it fails
    │  ├ ModelNotPulledError     the server has no such model
    │  ├ WeightsError            encoder weights missing or of another shape
    │  └ DeviceError             an accelerator without room for the work, or its process came to an end
    └ MetricError                a figure that the data can't give (no comparable pairs, no events)

A message says what was seen, in which file or row, and what to do next. Anything else that
escapes is a bug and keeps its traceback.
"""

from collections.abc import Iterable, Sequence


class WsisurvError(Exception):
    """Root of the tree: one ``except`` at the command line catches what can be explained."""

    exit_code = 1


class SettingsError(WsisurvError):
    """A setting that can't be, or that contradicts another: wrong usage."""

    exit_code = 2


class InputError(WsisurvError):
    """Something the user brought is not usable."""


class SlideError(InputError):
    """A slide can't be opened or read."""


class MissingMppError(SlideError):
    """A slide says nothing of its resolution."""


class DuplicateSlideError(SlideError):
    """Two slide files share one slide_id."""


class NoSlidesError(SlideError):
    """No slide was found where slides were asked for."""


class ReportError(InputError):
    """A report file can't be read."""


class CohortError(InputError):
    """A clinical table can't be used, or matches nothing."""


class ArtifactError(WsisurvError):
    """Something in the workspace is not as it should be."""


class FormatError(ArtifactError):
    """A file is not of the format it should be, or is damaged."""


class OlderFormatError(FormatError):
    """A file was made by an older wsisurv, in a format that is not read any more."""


class NewerFormatError(FormatError):
    """A file was made by a newer wsisurv."""


class BusyError(ArtifactError):
    """Another process is at it now."""

    exit_code = 3


class SharesLeftError(ArtifactError):
    """One share of a job array is done; what is made of all of them waits for the others."""


class MissingArtifactError(ArtifactError):
    """A file that an earlier step makes is not there."""


class StaleError(ArtifactError):
    """A file was made with other settings or from other inputs."""


class EncoderMismatchError(ArtifactError):
    """Features of one encoder meet a model trained on another's."""


class StorageError(ArtifactError):
    """A file could not be written: disk full, quota, permission."""


class BackendError(WsisurvError):
    """A program or file that wsisurv relies on is missing or failing."""


class OllamaUnavailableError(BackendError):
    """No Ollama server answers, or it answers with a failure."""


class ModelNotPulledError(BackendError):
    """The Ollama server does not have the model."""


class WeightsError(BackendError):
    """Encoder weights are missing or don't fit the architecture."""


class DeviceError(BackendError):
    """An accelerator has no room for the work, or the process on it came to an end."""


class MetricError(WsisurvError):
    """The data can't give the figure asked for."""


def near_names(name: str, known: Iterable[str]) -> list[str]:
    """Names that are like one that there is not, the most alike first; at most three.

    Args:
        name: as it was given.
        known: names that there are.
    """
    import difflib  # here alone: most runs name nothing wrong

    by_letters = {one.casefold().replace("-", "_"): one for one in known}
    near = difflib.get_close_matches(name.casefold().replace("-", "_"), by_letters, n=3, cutoff=0.6)
    return [by_letters[one] for one in near]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question for the end of a sentence, ``; did you mean site?``; empty where ``near_names`` gives none."""
    near = near_names(name, known)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def some(items: Sequence[object], shown: int = 5) -> str:
    """The first few of a list for a message, and how many more there are."""
    more = f" and {len(items) - shown} more" if len(items) > shown else ""
    return ", ".join(map(str, items[:shown])) + more
