"""What the demo's pathologists say of each morphology, by grade: 0 not there, 1 a little, 2 clear, 3 a great deal."""

from collections.abc import Mapping, Sequence

from wsisurv.demo.population import MorphologyName

Phrases = Sequence[Sequence[str]]

MORPHOLOGY_PHRASES: Mapping[MorphologyName, Phrases] = {
    "high_grade_nuclei": (
        (
            "High grade cytology is not identified; the tumour nuclei are small and uniform.",
            "No high grade component is seen; the tumor has regular basal nuclei and {few} mitoses per mm2.",
            "High grade areas are absent. Mitotic figures are sparse.",
        ),
        (
            "A minor high grade component with enlarged nuclei is present, with {some} mitoses per mm2.",
            "Nuclear atypia is mild to moderate, with small foci of high grade pleomorphic cells.",
            "There is focal nuclear pleomorphism; elsewhere the tumour is low grade.",
        ),
        (
            "Nuclear pleomorphism is moderate to marked, with solid high grade areas and {many} mitoses per mm2.",
            "A substantial part of the tumor is high grade, with large vesicular nuclei and prominent nucleoli.",
            "Moderately to poorly differentiated, with frequent mitotic figures.",
        ),
        (
            "The tumour is high grade with sheets of markedly pleomorphic nuclei and {lots} mitoses per mm2.",
            "Poorly differentiated, high grade; bizarre, enlarged nuclei and atypical mitoses are numerous.",
            "There are extensive solid areas of high grade tumor with severe nuclear atypia.",
        ),
    ),
    "lymphocyte_infiltrate": (
        (
            "Tumour-infiltrating lymphocytes are not identified.",
            "There is no significant host lymphoid response.",
            "An inflammatory infiltrate at the tumor border is absent.",
        ),
        (
            "Tumor-infiltrating lymphocytes are sparse.",
            "There is a mild, patchy lymphocytic infiltrate at the invasive margin.",
            "Focal lymphoid aggregates are seen in the stroma.",
        ),
        (
            "A moderate lymphocytic infiltrate is present at the invasive front.",
            "Tumour-infiltrating lymphocytes are readily found, with several lymphoid aggregates.",
            "The peritumoral lymphocytic reaction is moderate.",
        ),
        (
            "There is a dense, band-like lymphocytic infiltrate with many tumour-infiltrating lymphocytes.",
            "A prominent Crohn-like lymphoid reaction is present; tumor-infiltrating lymphocytes are numerous.",
            "The host response is marked, with extensive lymphocyte-rich stroma.",
        ),
    ),
    "necrosis": (
        ("Tumour necrosis is not identified.", "No necrosis is seen.", "Necrosis: absent."),
        ("Focal tumour necrosis is present.", "Small foci of necrosis are seen.", "Necrosis is focal."),
        (
            "Tumor necrosis is moderate, with dirty necrosis in several fields.",
            "There is geographic necrosis in a moderate part of the tumour.",
            "Necrosis is present in a considerable part of the sections.",
        ),
        (
            "Tumour necrosis is extensive.",
            "Large, confluent areas of tumor necrosis are present.",
            "There is extensive geographic necrosis with ghost cells and karyorrhectic debris.",
        ),
    ),
    "mucin": (
        ("There is no mucinous component.", "Extracellular mucin is not identified.", "No mucin pools are seen."),
        (
            "Focal extracellular mucin is present.",
            "Small mucin pools are seen.",
            "A minor mucinous component is noted.",
        ),
        (
            "Mucin pools are present in a moderate part of the tumour.",
            "There is a moderate mucinous component, less than half of the tumor.",
            "Extracellular mucin is readily seen.",
        ),
        (
            "Abundant extracellular mucin is present.",
            "Large mucin pools are seen throughout, short of half of the tumour.",
            "There is an extensive mucinous component.",
        ),
    ),
    "desmoplastic_stroma": (
        (
            "A desmoplastic reaction is not identified.",
            "The stroma is mature and collagenous.",
            "Desmoplasia is absent.",
        ),
        ("There is a mild desmoplastic reaction.", "Focal desmoplastic stroma is seen.", "Desmoplasia is slight."),
        (
            "Desmoplastic stroma is moderate.",
            "A moderate desmoplastic stromal reaction surrounds the glands.",
            "There is a fairly cellular, desmoplastic stroma in several areas.",
        ),
        (
            "A marked desmoplastic stromal reaction is present.",
            "There is abundant desmoplastic stroma.",
            "Extensive desmoplasia surrounds the tumor.",
        ),
    ),
    "gland_formation": (
        (
            "Outside solid areas the glands are compressed, with few open lumens.",
            "Gland formation is poor.",
            "Gland formation is limited.",
        ),
        (
            "Glands are small and partly fused.",
            "Gland formation is present but incomplete.",
            "Some gland formation is seen.",
        ),
        (
            "Gland formation is moderate.",
            "Irregular glands with open lumens are seen.",
            "Cribriform glands are common.",
        ),
        (
            "Gland formation is well developed, with wide lumens.",
            "The tumour forms large open glands.",
            "Well-formed glands predominate among the low grade component.",
        ),
    ),
}

HISTORIES = (
    "Change in bowel habit for {weeks} weeks. Colonoscopy: stenosing lesion of the {where}. Biopsy: adenocarcinoma.",
    "{age}-year-old patient with iron deficiency anaemia; CT shows a mass of the {where}. No distant metastases known.",
    "Rectal bleeding. Known polyp of the {where}, not resectable by endoscopy. Family history not known.",
    "Screening finding, positive stool test. No neoadjuvant therapy. ?extent of disease",
)

GROSS = (
    "Received in formalin, labelled with the case number, is a segment of bowel {length} cm long with attached fat. "
    "On opening there is an ulcerated, firm, tan tumour {size} x {size2} x {depth} cm in the {where}, {margin} cm "
    "from the nearer margin. The cut surface is grey-white and extends into the pericolic fat. "
    "{nodes} possible lymph nodes are found.",
    "The specimen consists of a resection of the {where} measuring {length} cm. There is an annular, exophytic mass of "
    "{size} x {size2} cm that narrows the lumen. The serosa over it is puckered. The remaining mucosa is unremarkable. "
    "The closest resection margin is {margin} cm away. Lymph nodes: {nodes} identified.",
    "Bowel, {length} cm, opened. Tumour {size} cm across, raised edges, central ulcer, depth {depth} cm. Margins "
    "{margin} cm and more. No other lesion. Fat searched, {nodes} nodes. Photographs taken.",
)

BLOCKS = (
    "A1 proximal margin; A2 distal margin; A3-A{last} tumour with deepest invasion; B1-B4 lymph nodes.",
    "Block key: 1 margins. 2 to {last} tumor. {last2} tumor and adjacent mucosa. Rest: lymph nodes, all embedded.",
    "Cassette summary: A - margins, B through F - mass, G - uninvolved colon, H-K - lymph nodes.",
)

IMMUNOHISTOCHEMISTRY = (
    "Immunohistochemistry: MLH1, PMS2, MSH2 and MSH6 show retained nuclear expression.",
    "Mismatch repair proteins (MLH1, MSH2, MSH6, PMS2): intact. CDX2 positive, CK20 positive, CK7 negative.",
    "IHC: loss of MLH1 and PMS2; MSH2 and MSH6 retained. BRAF pending.",
    "Special stains were not requested.",
)

INVASION = (
    ("Lymphovascular invasion is not identified.", "No vascular invasion is seen.", "Lymphatic invasion: absent."),
    ("Lymphovascular invasion is present.", "Tumour is seen in lymphatic channels.", "There is focal venous invasion."),
)

PERINEURAL = (
    ("Perineural invasion is not seen.", "No perineural invasion."),
    ("Perineural invasion is present.", "Focal perineural invasion is identified."),
)

DEPTH = (
    "The tumour invades the submucosa and the inner muscularis propria (pT2).",
    "The tumor extends through the muscularis propria into pericolic fat (pT3).",
    "Invasion reaches the subserosal tissue (pT3).",
    "The tumour perforates the visceral peritoneum (pT4a).",
)

SIGNATURES = (
    "Reported by Dr. Nobody Invented, Department of Made-up Pathology (synthetic demo text)",
    "Electronically signed: A. Figment MD, Pretend Hospital {hospital} (synthetic demo text)",
    "Dictated: P. Laceholder / typed: demo. Synthetic text, no patient.",
    "Prof. Dr. E. X. Ample, Institut fuer Beispielpathologie. Synthetic demo report.",
)
