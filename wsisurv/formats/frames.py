"""Features for notebooks: a table, or AnnData."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from wsisurv.errors import InputError, MissingArtifactError
from wsisurv.formats.anndata import write_anndata
from wsisurv.formats.features import Features
from wsisurv.formats.features import read_features as read_file

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

_MOST_COLUMNS_DIFFER = "{}: {} columns of {}, where {} has {} of {}. Read one encoder's files at a time."


def read_features(
    path: Path | str,
    *,
    as_: Literal["frame", "anndata"] = "frame",
    progress: "Callable[[int, int, str], None]" = lambda *_: None,
) -> "pd.DataFrame | Any":
    """Read the features of a slide, or of all slides of an encoder, as a table or as AnnData.

    Example:
        >>> import wsisurv
        >>> tiles = wsisurv.read_features("workspace/features/histomics")
        >>> slide = wsisurv.read_features("workspace/features/histomics/A.h5", as_="anndata")

    Args:
        path: a features file, or the folder of an encoder.
        as_: ``frame``: a pandas DataFrame, a row a tile, a column a feature, indexed by ``slide_id``, ``x``, ``y`` (top
            left in level-0 pixels; NaN where nobody knows) and ``row``; ``anndata``: AnnData as `wsisurv export
            --format anndata` writes it, for which the package anndata must be installed.
        progress: called as files are read.

    Returns:
        The table, float32, or AnnData.

    Raises:
        MissingArtifactError, FormatError: no such file, or none of features.
        InputError: slides of several encoders, or anndata isn't installed.
    """
    import pandas as pd

    path = Path(path)
    files = [path] if path.suffix == ".h5" else sorted(path.glob("*.h5"))
    if not files:
        raise MissingArtifactError(f"{path}: no features in it. Run `wsisurv embed` or `wsisurv import`.")
    found: list[Features] = []
    for number, file in enumerate(files):
        progress(number, len(files), file.stem)
        features, _ = read_file(file)
        first = found[0] if found else features
        seen, wanted = ((one.values.shape[1], one.encoder) for one in (features, first))
        if seen != wanted:
            raise InputError(_MOST_COLUMNS_DIFFER.format(file, *seen, files[0], *wanted))
        found.append(features)
    progress(len(files), len(files), "")
    if as_ == "anndata":
        return _as_anndata(found)
    names = list(found[0].names) or [str(column) for column in range(found[0].values.shape[1])]
    frames = [pd.DataFrame(one.values.astype(np.float32), index=_index(one), columns=names) for one in found]
    table = pd.concat(frames)
    table.attrs = {"encoder": found[0].encoder, "mpp": {one.slide_id: one.mpp for one in found}}
    return table


def _index(features: Features) -> Any:
    import pandas as pd

    n_tiles = len(features.values)
    coords = np.full((n_tiles, 2), np.nan) if features.coords is None else features.coords
    levels = [[str(features.slide_id)] * n_tiles, coords[:, 0], coords[:, 1], range(n_tiles)]
    return pd.MultiIndex.from_arrays(levels, names=["slide_id", "x", "y", "row"])


def _as_anndata(found: list[Features]) -> Any:
    from tempfile import TemporaryDirectory

    try:
        import anndata
    except ModuleNotFoundError as error:
        raise InputError("AnnData needs its package: pip install 'wsisurv[anndata]'.") from error
    with TemporaryDirectory(prefix="wsisurv-anndata-") as folder:
        slides = []
        for one in found:
            write_anndata(Path(folder, "one.h5ad"), one, None)
            slides.append(anndata.read_h5ad(Path(folder, "one.h5ad")))
    return slides[0] if len(slides) == 1 else anndata.concat(slides, merge="same", uns_merge="same")
