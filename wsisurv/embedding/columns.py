"""The columns of the embedded encoder: their names, units and definitions."""

from dataclasses import dataclass

VERSION = 1
"""Raised whenever a column changes, so that features of two definitions never pass for each other."""
TEXTURE_UM = (1, 2, 4, 8)
"""Scales of the texture columns."""


@dataclass(frozen=True)
class FeatureColumn:
    """One feature: its name, its unit, and what it measures."""

    name: str
    unit: str
    definition: str


def _of_stain(stain: str) -> tuple[tuple[str, str, str], ...]:
    return (
        (f"{stain}_mean", "OD", f"mean {stain} of the tissue, optical density"),
        (f"{stain}_sd", "OD", f"standard deviation of {stain} over the tissue"),
        (f"{stain}_p10", "OD", f"tenth percentile of {stain} over the tissue"),
        (f"{stain}_p50", "OD", f"median {stain} of the tissue"),
        (f"{stain}_p90", "OD", f"ninetieth percentile of {stain} over the tissue"),
        *(
            (f"{stain}_texture_{2 * um}um", "share", f"variance of {stain} between {um} and {2 * um} µm over all")
            for um in TEXTURE_UM
        ),
    )


_ROWS = (
    # Glass and colour
    ("white_share", "share", "area of glass, lumen and fat: mean optical density under 0.06"),
    ("pale_share", "share of tissue", "optical density 0.06 to 0.16: mucin, oedema"),
    ("pale_blue_share", "share of tissue", "pale, and more haematoxylin than eosin: mucin-like"),
    ("pink_share", "share of tissue", "eosin over 0.15 OD and at least 4 × haematoxylin: collagen, keratin, debris"),
    ("red_share", "share of tissue", "eosin over 0.6 OD and at least 4 × haematoxylin: red cells, hyaline"),
    ("foreign_share", "share of tissue", "over 0.2 OD that neither stain explains: ink, pigment"),
    ("red_blue_ratio", "ratio", "mean red over mean blue intensity of the tissue, 10 at most; 1 in an empty tile"),
    ("density_mean", "OD", "mean optical density of the tissue over the three colours"),
    *_of_stain("haematoxylin"),
    *_of_stain("eosin"),
    ("rest_mean", "OD", "mean optical density that neither stain explains"),
    ("rest_sd", "OD", "standard deviation of the same"),
    ("haematoxylin_share", "share", "haematoxylin of the tissue over both stains: hue, whatever the strength"),
    ("stain_correlation", "correlation", "of haematoxylin and eosin over the tissue, -1 to 1"),
    ("haematoxylin_entropy", "bits", "entropy of the tissue's haematoxylin in steps of 0.08 OD"),
    # Pattern, at 1 µm a pixel
    ("fibre_coherence", "0 to 1", "alignment of eosin gradients within 16 µm, weighted by their strength"),
    ("fibre_alignment", "0 to 1", "alignment of eosin gradients over the whole tile"),
    ("edge_share", "share", "pixels darker than half of their neighbours, in one run: edges"),
    ("spot_share", "share", "pixels darker or lighter than all their neighbours: grains"),
    ("irregular_share", "share", "pixels whose neighbours change sides more than twice: noise, fine texture"),
    # Nuclei
    ("nuclei_density", "1000/mm²", "nuclei a mm² of tissue"),
    ("nuclei_area_share", "share of tissue", "area of nuclei"),
    (
        "nuclei_area_mean",
        "µm²",
        "mean area of a nucleus, a clump taken as 2000; 0 where there is none, as in what follows",
    ),
    ("nuclei_area_sd", "µm²", "standard deviation of the area"),
    ("nuclei_area_max", "µm²", "area of the largest nucleus"),
    ("large_nuclei_share", "share of nuclei", "area over 70 µm²"),
    ("nuclei_eccentricity_mean", "0 to 1", "mean eccentricity, 0 round"),
    ("nuclei_eccentricity_sd", "0 to 1", "standard deviation of the eccentricity"),
    ("spindle_share", "share of nuclei", "eccentricity over 0.9: fibroblasts, smooth muscle, cut edges"),
    ("nuclei_fill_mean", "ratio", "mean area over that of the ellipse of same moments: below 1 irregular"),
    ("nuclei_haematoxylin_mean", "OD", "mean haematoxylin of the nuclei"),
    ("nuclei_haematoxylin_sd", "OD", "standard deviation of it between nuclei"),
    ("nuclei_contrast", "OD", "mean haematoxylin of nuclei less that of the tissue around them"),
    ("nuclei_chromatin", "OD", "mean standard deviation of haematoxylin inside a nucleus"),
    ("nuclei_threshold", "OD", "haematoxylin that parts nuclei from the rest in this tile"),
    ("nuclei_alignment", "0 to 1", "alignment of the long axes, weighted by eccentricity"),
    ("lymphocyte_density", "1000/mm²", "nuclei a mm² of tissue of 12 to 45 µm², eccentricity under 0.75, compact"),
    ("lymphocyte_share", "share of nuclei", "the same over all nuclei"),
    ("neighbour_distance_mean", "µm", "to the nearest nucleus, mean; the tile's side where there are not two"),
    ("neighbour_distance_sd", "µm", "standard deviation of it"),
    ("nuclei_clustering", "ratio", "variance over mean of the counts in 16 equal squares: 1 random, more clustered"),
    ("nucleus_free_share", "share of tissue", "no nucleus in the 30 µm square around: necrosis, keratin, mucin"),
    ("speck_density", "1000/mm²", "dark specks of 1 to 10 µm² a mm² of tissue: debris, pigment, apoptosis"),
)

COLUMNS = tuple(FeatureColumn(*row) for row in _ROWS)
"""Every column, in the order of the features."""
