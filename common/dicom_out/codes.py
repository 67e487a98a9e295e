# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What names of labels mean, as codes of SNOMED CT; other names get a private code, the same for the same name.

The codes are those of DICOM's own dictionary (PS3.16, as pydicom has it).
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

SNOMED, PRIVATE = "SCT", "99SAMBUNDLES"
# Of a code's meaning, in characters.
LONGEST = 64


class Code(NamedTuple):
    """A word of a scheme of codes."""

    value: str
    meaning: str
    scheme: str = SNOMED


class Coded(NamedTuple):
    """What a label is: its category, its kind, and on which side of the body where the name says so."""

    category: Code
    kind: Code
    side: Code | None = None


STRUCTURE = Code("91723000", "Anatomical Structure")
TISSUE = Code("85756007", "Tissue")
ABNORMAL = Code("49755003", "Morphologically Abnormal Structure")
SIDES = {"left": Code("7771000", "Left"), "right": Code("24028007", "Right")}
# Names in small letters, British and American spellings and singulars as below.
STRUCTURES = {
    "adrenal gland": Code("23451007", "Adrenal gland"),
    "amygdala": Code("4958002", "Amygdala"),
    "aorta": Code("15825003", "Aorta"),
    "blood vessel": Code("59820001", "Blood vessel"),
    "bone": Code("272673000", "Bone"),
    "brain": Code("12738006", "Brain"),
    "brain stem": Code("119238007", "Brain stem"),
    "breast": Code("76752008", "Breast"),
    "caudate nucleus": Code("11000004", "Caudate nucleus"),
    "cerebellum": Code("113305005", "Cerebellum"),
    "colon": Code("71854001", "Colon"),
    "duodenum": Code("38848004", "Duodenum"),
    "esophagus": Code("32849002", "Esophagus"),
    "femur": Code("71341001", "Femur"),
    "gallbladder": Code("28231008", "Gallbladder"),
    "globus pallidus": Code("14738005", "Globus pallidus"),
    "heart": Code("80891009", "Heart"),
    "hippocampus": Code("5366008", "Hippocampus"),
    "inferior vena cava": Code("64131007", "Inferior vena cava"),
    "kidney": Code("64033007", "Kidney"),
    "larynx": Code("4596009", "Larynx"),
    "left atrium": Code("82471001", "Left atrium"),
    "left ventricle": Code("87878005", "Left ventricle"),
    "liver": Code("10200004", "Liver"),
    "lung": Code("39607008", "Lung"),
    "mandible": Code("91609006", "Mandible"),
    "nucleus": Code("84640000", "Nucleus"),
    "optic disc": Code("81016008", "Optic nerve head"),
    "pancreas": Code("15776009", "Pancreas"),
    "parotid gland": Code("45289007", "Parotid gland"),
    "portal vein": Code("32764006", "Portal vein"),
    "prostate": Code("41216001", "Prostate"),
    "putamen": Code("89278009", "Putamen"),
    "rectum": Code("34402009", "Rectum"),
    "rib": Code("113197003", "Rib"),
    "right atrium": Code("73829009", "Right atrium"),
    "right ventricle": Code("53085002", "Right ventricle"),
    "small intestine": Code("30315005", "Small Intestine"),
    "spinal cord": Code("2748008", "Spinal cord"),
    "spine": Code("421060004", "Spine"),
    "spleen": Code("78961009", "Spleen"),
    "sternum": Code("56873002", "Sternum"),
    "stomach": Code("69695003", "Stomach"),
    "superior vena cava": Code("48345005", "Superior vena cava"),
    "thalamus": Code("42695009", "Thalamus"),
    "thyroid": Code("69748006", "Thyroid"),
    "trachea": Code("44567001", "Trachea"),
    "urinary bladder": Code("89837001", "Bladder"),
    "uterus": Code("35039007", "Uterus"),
    "vertebra": Code("51282000", "Vertebra"),
}
TISSUES = {
    "gray matter": Code("389081007", "Gray matter"),
    "white matter": Code("389080008", "White matter"),
}
FINDINGS = {
    "cyst": Code("367643001", "Cyst"),
    "edema": Code("79654002", "Edema"),
    "lesion": Code("52988006", "Lesion"),
    "necrosis": Code("6574001", "Necrosis"),
    "neoplasm": Code("108369006", "Neoplasm"),
    "nodule": Code("27925004", "Nodule"),
    "skin lesion": Code("95324001", "Skin lesion"),
}
TABLE = {
    **{name: Coded(STRUCTURE, code) for name, code in STRUCTURES.items()},
    **{name: Coded(TISSUE, code) for name, code in TISSUES.items()},
    **{name: Coded(ABNORMAL, code) for name, code in FINDINGS.items()},
}
ALSO = {
    "adrenal": "adrenal gland",
    "bladder": "urinary bladder",
    "brainstem": "brain stem",
    "gall bladder": "gallbladder",
    "grey matter": "gray matter",
    "kidneys": "kidney",
    "lungs": "lung",
    "nuclei": "nucleus",
    "oedema": "edema",
    "oesophagus": "esophagus",
    "optic disk": "optic disc",
    "parotid": "parotid gland",
    "retinal vessel": "blood vessel",
    "retinal vessels": "blood vessel",
    "small bowel": "small intestine",
    "spinalcord": "spinal cord",
    "thyroid gland": "thyroid",
    "tumor": "neoplasm",
    "tumour": "neoplasm",
    "vertebrae": "vertebra",
    "vessel": "blood vessel",
    "vessels": "blood vessel",
}


def coded(name: str) -> Coded:
    """What a label of this name is: ``kidney_left``, ``Left kidney`` and ``kidney`` are kidneys."""
    words = re.sub(r"[\s_\-.,]+", " ", name).strip().lower()
    if (known := _known(words)) is not None:
        return known
    for side, code in SIDES.items():
        rest = " ".join(word for word in words.split() if word != side)
        if rest != words and (known := _known(rest)) is not None:
            return known._replace(side=code)
    value = hashlib.sha256(words.encode()).hexdigest()[:12]
    return Coded(STRUCTURE, Code(value, name.strip()[:LONGEST] or "object", PRIVATE))


def _known(words: str) -> Coded | None:
    return TABLE.get(ALSO.get(words, words))
