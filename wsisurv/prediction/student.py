"""A student in memory, for features in arrays and no workspace."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wsisurv.bags.cases import CaseRead, SlideRead
from wsisurv.errors import EncoderMismatchError, InputError
from wsisurv.formats.cards import StudentCard
from wsisurv.formats.features import FORMAT, Features
from wsisurv.formats.header import make_header
from wsisurv.formats.risks import Risk
from wsisurv.models.fast_ensemble import TileScores
from wsisurv.prediction.card import OpenStudent, open_student
from wsisurv.prediction.rows import make_row
from wsisurv.prediction.step import HORIZONS, check_horizons
from wsisurv.units import SlideId

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class TilePrediction:
    """The risk of a case, and what each tile does to it."""

    risk: Risk  # the row that ``predict`` would write
    coords: NDArray[np.int64]  # int64 (n_tiles, 2), as they were given
    scores: TileScores  # attention and contribution of each tile, of the members' mean

    def to_frame(self) -> "pd.DataFrame":
        """A row a tile: x, y (level-0 pixels), attention (sums to 1), contribution (sums to the log hazard)."""
        import pandas as pd

        x, y = self.coords.T
        return pd.DataFrame(
            {"x": x, "y": y, "attention": self.scores.attention, "contribution": self.scores.contribution}
        )


class LoadedStudent:
    """A trained student; ``wsisurv.Student``.

    Attributes:
        card: what its input must be, and what is known of its training.
        path: its file.

    Example:
        >>> import wsisurv
        >>> student = wsisurv.Student.load(Path("student.h5"))  # doctest: +SKIP
        >>> found = student.predict(features, coords)  # doctest: +SKIP
        >>> found.risk.log_hazard, found.risk.warning, found.to_frame()  # doctest: +SKIP
    """

    def __init__(self, path: Path, opened: OpenStudent) -> None:
        self.path, self._opened = path, opened

    @property
    def card(self) -> StudentCard:
        """Encoder, tiles, cut-offs and training of the student."""
        return self._opened.scale.card

    @classmethod
    def load(cls, path: Path, *, device: str = "cpu") -> "LoadedStudent":
        """Read ``student.h5``; nothing in it is run.

        Args:
            path: the file.
            device: where to compute, as torch names it.

        Raises:
            MissingArtifactError: there is no such file.
            FormatError: it is no student, or damaged.
        """
        return cls(Path(path), open_student(Path(path), device=device))

    def predict(
        self,
        features: NDArray[np.floating],
        coords: NDArray[np.integer],
        *,
        case_id: str = "case",
        encoder: str | None = None,
        horizons: Sequence[float] = HORIZONS,
        force_unfamiliar: bool = False,
    ) -> TilePrediction:
        """Predict the risk of one new case from its tiles.

        Arrays don't say what made them: they must be of the encoder and the tiles that ``card`` names, as
        ``wsisurv.predict`` makes sure for files. A case of the training is predicted too well here, by members that
        have seen it too.

        Args:
            features: (n_tiles, n_features), float16 or float32, as ``embed`` made them, unscaled.
            coords: (n_tiles, 2), x and y of each tile's top left, level-0 pixels; slides one after the other.
            case_id: of the case.
            encoder: that made the features, where it is known; refused where it is not the student's.
            horizons: years to which survival is wanted.
            force_unfamiliar: give group and survival of a case too that the student does not know.

        Raises:
            EncoderMismatchError: another number of columns than in training, or another encoder.
            InputError: shapes that don't fit, no tile, or a feature that is no finite number.
            FormatError: the student gives no finite number.
            SettingsError: a horizon is no positive number.
        """
        years = check_horizons(horizons)
        values, places = np.asarray(features), np.asarray(coords)
        card = self.card
        if encoder is not None and encoder not in {card.encoder, card.embed_settings.get("encoder")}:
            raise EncoderMismatchError(
                f"features of encoder {encoder!r}, but {self.path} was trained on {card.encoder!r}."
            )
        if values.ndim != 2 or places.shape != (len(values), 2):
            raise InputError(
                f"case {case_id}: features of shape {values.shape} and coords of shape {places.shape}; (n_tiles, "
                "n_features) and (n_tiles, 2) are needed"
            )
        if values.shape[1] != card.n_features:
            raise EncoderMismatchError(
                f"case {case_id}: {values.shape[1]} features a tile, but {self.path} was trained on {card.n_features} "
                f"of {card.encoder!r}."
            )
        if not len(values) or not np.issubdtype(values.dtype, np.floating) or not np.isfinite(values).all():
            raise InputError(f"case {case_id}: at least one tile, and finite floating-point features, are needed")
        slide = Features(SlideId(case_id), values, places.astype(np.int64), card.encoder, (), {}, 0.0)
        case = CaseRead(case_id, (SlideRead(slide, make_header(FORMAT, card.embed_settings, {})),))
        risk = make_row(
            self._opened.scale,
            case,
            self._opened.ensemble.states(values),
            fold=None,
            horizons=years,
            force_unfamiliar=force_unfamiliar,
        )
        return TilePrediction(risk, slide.place.coords, self._opened.ensemble.tile_scores(values))
