"""The words by which the rules know a report's parts and findings: one list a kind, learnt from real reports.

Each list is of regular expressions, several a line with ``|`` between them; case doesn't matter unless said.
"""

import re
from typing import Literal

from wsisurv.formats.statements import Category

Kind = Literal["microscopic", "gross", "immunohistochemistry", "history", "handling", "identifiers"]
"""Parts of a report; ``microscopic`` is what a slide can show: diagnosis, microscopic description, synoptic lists."""


def alternatives(lines: str) -> str:
    """Join a list of expressions, a line each or several with ``|``, to one expression."""
    return "|".join(line.strip() for line in lines.splitlines() if line.strip())


HEADINGS: dict[Kind, str] = {
    "gross": r"""
        gross|gross (?:description|examination|diagnosis|findings|appearance[\w ]*)
        macroscop(?:y|ic (?:description|examination|findings))|macro|grossly
        makroskopi\w*(?: \w+)?|(?:opis|badanie) makroskopow[ye]
        macroscopische? (?:beschrijving|beoordeling|bevindingen|onderzoek)
        macroscopi[ae]|(?:examen|description|descripci[oó]n|esame|descrizione|descri[cç][aã]o) macrosc\w+
        tumou?r (?:site|size|location|configuration|dimensions)|specimen (?:size|length)
        (?:gross )?distance from[\w ]*|location of tumou?r
        specimen description|additional dimensions|intactness of mesorectum
        (?:macroscopic|gross) tumou?r perforation|tumou?r features
    """,
    "immunohistochemistry": r"""
        (?:summary of )?immuno(?:histochemi\w+|stain\w*|peroxidase\w*)[\w /]*|special (?:stain|studi)\w*
        molecular[\w ]*|ancillary studies|stain/marker|(?:dna )?mismatch repair[\w ]*
        (?:k-?ras|braf|nras|egfr|msi|her-?2|mlh1|pms2|msh[26])[\w ]*|microsatellite instability[\w ]*
        receptor status|hormone receptors?|biomarkers?
    """,
    "history": r"""
        clinical (?:history|notes?|data|diagnosis|information|findings)|clinicalinformation|brief clinical history
        (?:patient|medical|past) history|history|pre-? ?op(?:erative)?\.? diagnosis
        post-? ?op(?:erative)?\.? diagnosis|operati(?:on|ve (?:findings|procedure))|indications?
        pertinent clinical information|prior malignancy|treatment|chemoradiation|specific clinical question
        other diseases
    """,
    "handling": r"""
        block (?:summary|list|description)|summary of (?:sections|blocks)|cassette summary|section code
        sections? submitted|specimens?(?:\(s\))?(?: submitted)?|tissues?(?:\(s\))? submitted[\w ]*
        material(?: received)?|specimen (?:type|source|labell?ed[\w ]*)|procedure|orientation
        digital photograph taken|time in formalin|specimen fixation|cost of diagnostic procedure
        expected time of examination|parts of bowel received|examination|micro a\w{1,3}|extent of resection
        attached lymph nodes|photo documentation
    """,
    "identifiers": r"""
        page|copy|run (?:date|time|user)|date (?:coll|obtained|complete|of birth|of \w+)\w*
        (?:collected|received|print|admission|discharge) date[/\w ]*|cpt|resident
        (?:qc|grossing|attending|frozen section) pathologist|patient(?: name| locations?)?|reports? to|distribute to
        report status|verified|interpreted by|accession[\w ]*|room|population|ethnicity|gender|sex|age|address|phone
        electronically signed[\w ]*|electronic signature|signature|path #|reference|hospital|name
    """,
    "microscopic": r"""
        (?:(?:final|pathologic(?:al)?|histopatholog(?:y|ic|ical)|permanent|microscopic) )*diagnosis
        mikroskopi\w*(?: \w+)?|(?:opis|badanie) mikroskopow[ye]|micro
        microscopi[ae]|rozpoznanie(?: \w+)?|diagnos[ei]|diagn[oó]stico
        (?:examen|description|descripci[oó]n|esame|descrizione|descri[cç][aã]o) microsc\w+|beurteilung|diagnostic
        diagnos[ie]s|diagnosis ?/ ?diagnoses|diagnosis \(diagnoses\)|diagnosis based on[\w ]*
        microscop(?:y|ic (?:description|examination|exam|findings|tumou?r extension))|light microscopy|histology
        findings and diagnosis[\w ]*|(?:colorectal |gi )?cancer (?:template|case summary)[\w -]*
        synoptic (?:report|data)[\w &-]*|case synopsis|(?:large intestine tissue )?checklist
        (?:tumou?r )?histolog(?:ic|ical) (?:(?:sub)?type|grade)
        tumou?r (?:type|grade|extent|classification|stage|border configuration|histologic type)
        frozen section diagnosis|intra-?operative consult\w*(?: diagnosis)?|comments?(?:\(s\))?|notes?
        follow-up report|margins?(?: of resection)?|surgical margins?|additional (?:pathologic|path)? ?findings
        additional tumou?r characteristics|lymph nodes?|regional lymph nodes(?: \(pn\))?|perineural invasion
        (?:lympho-?|angio)?(?:vascular|lymphatic|venous)[/ \w]*invasion|primary tumou?r(?: \(pt\))?
        extent of invasion|depth of invasion|deepest tumou?r invasion|conclusion|histopathology
        addend(?:um|a)(?: report)?|interpretation|pathologic(?:al)? (?:stage|staging)[\w ()]*|stage of tumou?r
        summary|remarks?
    """,
}
"""What a heading may say, by the kind of part that it opens."""

_OWN_WORDS: dict[Kind, str] = {
    "identifiers": r"""
        electronic(?:ally)? sign|reported by|dictated|\bDr\b|\bProf\b|institut(?:e|ion|)\b|\bhospital\b|synthetic
        \bM\.? ?D\b\.?(?!/)|\bcopy no|\bpage:? ?\d|accession
        \bdob\b|medical record
        confidential|privileged|unauthori[sz]ed|contact you doctor|patholog(?:ist|y department)|telephone|\bfax\b
        \bCLIA\b|food and drug|this (?:report|test) (?:was|is)|\bicd\b-?|icdo?-|\bcpt\b|\bT-\d{4}|\bM-\d{4,}
        \b\d{1,2}:\d\d\b
    """,
    "immunohistochemistry": r"""
        immuno(?:hist|stain|react|perox|phen|chem|label)|\bIHC\b|\bstain(?:s|ed|ing)?\b|\bML ?H ?-?1\b
        \bMSH ?-?[26]\b|\bPMS ?-?2\b|microsatellite|\bMS[IS](?:-[HL])?\b|mismatch repair|\bk-?ras\b|\bbraf\b
        \begfr\b|\bcdx-?2\b|\bCK ?\d+|cytokeratin|\bher-?2|\bki-?67\b|\bp53\b|\bPCR\b|mutation|\bfish\b|\bCD ?\d+
        \bs-?100\b|synaptophysin|chromogranin|(?:o?estrogen|progesterone) receptor
        \b(?:ER|PR|AE1/3)\b(?=\W*(?:pos|neg|\+|\d))|vimentin|monoclonal|lynch|antibod|sequencing|hereditary|hybridi[sz]ation|\bTTF-?1\b|\bdna\b
    """,
    "history": r"""
        \bhistory of\b|\bpre-?op\w*|\bpost-?op\w*|year[- ]old|\bpatient (?:is|has|was|with)\b|status post|\bs/p\b
        clinical(?:ly)? (?:diagnos|histor|indicat|suspic|inform|impression|correlat)|colonoscop|oncology conference
        previous (?:surg|abdominal|biops|resect)|clinical (?:team|findings|review)|chemotherapy (?:was|is|may)
        bleeding|neo-?adjuvant
    """,
    "handling": r"""
        submitted|cassette|\bblocks?\b(?! \w*FS)|representative|\blabell?ed\b|\bin toto\b|tissue (?:bank|procure)
        procurement|formalin|\bcontainer\b|acetone|\binked\b|\bshaved?\b|\bmicro a\w{1,3}:
        frozen section (?:was|is|perf)|slides? (?:is|are|were) (?:review|sent)|will be (?:issued|reported|forwarded)
        sections? (?:of|from|show) .{0,30}: ?\d|follow-up report will|\bphotograph
    """,
    "gross": r"""
        \bgross(?:ly)?\b|macroscop|received (?:fresh|is|are|in)|serially|cut (?:surface|section)s?|\bstapled?\b
        \bbread-?loaf|\btan\b|tan[-/ ](?:pink|white|brown|red|yellow)|\bweigh(?:s|ing|t)|\bsectioning\b|on opening
        specimen (?:consists|is received|measures|compris)|rubbery|\bglistening|cauliflower|serosal surface is
        ^\W*(?:the )?(?:tumou?r|lesion|polyp|mass|colon|specimen) measures|\bin circumference|lesion surrounds
        palpabl|smooth(?:,| and)|\bsized \d|length of the (?:large|small) intestine
        segment of (?:\w+ )*(?:colon|bowel|ileum) (?:measur|with)|average thickness|\blumen\b
        \bmeasur\w+ .{0,12}[ce]m\b.{0,12}length
    """,
}
OWN_WORDS: dict[Kind, re.Pattern[str]] = {
    kind: re.compile(alternatives(lines), re.IGNORECASE) for kind, lines in _OWN_WORDS.items()
}
"""Words that put a sentence in a part, whatever heading it stands under; the first that fits."""

_FINDINGS: dict[Category, str] = {
    "lymphovascular_invasion": r"""
        \w*[ -]?(?:vascular|lymphatic|venous)\b[\w/,() -]{0,40}?\b(?:inva[sd]\w*|infiltrat\w+|permeat\w+)
        \w*[ -]?(?:vascular|lymphatic|venous)\b[\w/,() -]{0,40}?\b(?:involve\w*|spread|emboli)
        angio-?(?:lymphatic )?invasion|(?:invasion|infiltration|permeation) of (?:the )?(?:\w+ )?(?:vessels|veins)
        tumou?r (?:emboli|thromb)\w*|(?<![\w.])(?-i:[LV]) ?[0-2Ox](?!\w)|intravascular|invasion vasc\S*
        lymphatic (?:channels?|vessels?|spaces?)|\bvessels?\)? (?:inva\w+|infiltrat\w+)|invasion of (?:\w+ ){0,3}vessels
    """,
    "perineural_invasion": r"""
        (?:peri-?|endo)?neural (?:\w+ )?(?:invasion|infiltrat\w+|involvement|spread)|invasion perineural
        perineuri?al\b|(?-i:\bPn ?[01])(?!\w)
    """,
    "node": r"""
        (?<!non-)(?<!non-lymph )\b(?:lymph ?-?)?nodes?\b|\b(?!(?-i:Pn))p ?N ?[0-3O][a-c]?\b|lymphonod\w+
        extra-?(?:nodal|capsular)(?: tumou?r)? (?:extension|spread|invasion|involvement)\W+\w|nodal\b
        \bnumber (?:examined|involved|positive)
    """,
    "margin": r"""
        \bmargins?\b|resection (?:line|edge|plane)s?|(?:incision|excision) lines?|\b(?:intestine|bowel) ends?\b
        (?<![\w.])(?-i:R) ?[0-2O](?!\w)
    """,
    "necrosis": r"""
        (?<!fat )\bnecro\w+|comedo
    """,
    "mucin": r"""
        \bmucin\w*|\bmucus\b|colloid|signet\W{0,3}ring|mucocellul\w+
    """,
    "mitoses": r"""
        \bmitos[ei]s\b|mitotic (?:figures?|count|rate|activity)
    """,
    "inflammation": r"""
        lymphocyt\w*|inflammat\w*|lymphoid|plasma ?cell\w*|plasmocyt\w*|eosinophil\w*|neutrophil\w*|host response
        crohn\S*like|tumou?r[- ]infiltrating|granuloma\w*|\bTILs?\b
    """,
    "stroma": r"""
        \bstroma\w*|desmopla\w*|fibrosis|sclerosis
    """,
    "precursor": r"""
        adenomas?\b|adenomatous|dysplasia|intra-?epithelial neoplasia|\bin[- ]situ\b|\bpolyps?\b|precursor|\bDCIS\b
    """,
    "grade": r"""
        (?<![\w-])(?<!block )(?<!blocks )(?<![A-FH-KOQSUW-Z]\d[ ,/])G ?[1-4](?!\w)(?!\W{1,2}[A-FH-KOQSUW-Z]\d)
        \bgrade\b|(?:well|moderate(?:ly)?|poor(?:ly)?)[\W\w]{0,25}?differentiat\w+
        differentiated|undifferentiated|(?:low|high|intermediate)[ -]grade
    """,
    "growth_pattern": r"""
        infiltrat(?:ing|ive)(?: \w+)? border|pushing|expansile|border configuration|budding|gland(?:s|ular)?\b
        cribriform|trabecular|micropapillary|growth pattern|tubul(?:ar|o)\w*|papillar\w*|\bsolid\b|\bnests?\b
    """,
    "invasion": r"""
        \binvad\w+|\binfiltrat\w+|\binvasion\b|\bpenetrat\w+|\bextend(?:s|ing)? (?:in|through|to|beyond)
        \bextension\b|\bpermeat\w+|\bperforat(?:es|ing)|(?:depth|extent) of|\by?p ?T ?[0-4x][a-d]?\b
        \binvasive (?:tumou?r )?(?:spread|growth)|\bspread\b|\bfull thickness|confined to|limited to
    """,
    "histological_type": r"""
        \w*carcinomas?\b|\w*sarcoma\b|melanoma|lymphoma|carcinoid|(?<!non-)\bneoplas\w+|malignan\w+|\bductal\b|lobular
    """,
    "other_morphology": r"""
        atypia|pleomorph\w*|\bnucle(?:i|ar|us)\b|nucleol\w+|cytoplasm\w*|\bcells?\b|apopto\w+|ulcerat\w+
        h(?:a)?emorrh\w+|tumou?r deposits?|metaplasia|treatment effect|hyperplas\w+|regressi\w+|calcificat\w+
    """,
}
FINDINGS: dict[Category, re.Pattern[str]] = {
    category: re.compile(alternatives(lines), re.IGNORECASE) for category, lines in _FINDINGS.items()
}
"""Words that name a finding."""
