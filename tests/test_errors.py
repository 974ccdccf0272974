"""The tree in the docstring is the tree in the code."""

from wsisurv import errors


def _tree(error: type[Exception]) -> list[str]:
    return [error.__name__, *(name for child in error.__subclasses__() for name in _tree(child))]


def test_every_error_is_drawn_in_the_docstring():
    assert errors.__doc__ is not None
    drawn = [line.strip(" │├└").split("  ")[0] for line in errors.__doc__.splitlines() if "Error" in line]
    drawn = [name for name in drawn if name.isidentifier()]
    ours = [name for name in _tree(errors.WsisurvError) if name in vars(errors)]
    assert drawn == ours
