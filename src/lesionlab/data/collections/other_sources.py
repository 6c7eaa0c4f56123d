"""Known collections beside HAM10000, ISIC 2018 and MedMNIST: fetched, or where to ask for them."""

from __future__ import annotations

from lesionlab.data.collections.source import (
    CC0,
    CC_BY,
    CC_BY_NC,
    Licence,
    RemoteFile,
    Source,
)

_S3 = "https://isic-challenge-data.s3.amazonaws.com"
_MILK = "https://isic-archive.s3.amazonaws.com/challenges/milk10k"
_ISIC = "International Skin Imaging Collaboration (ISIC)"
_CHALLENGES = "https://challenge.isic-archive.com/data/"


def _files(base: str, *names: str) -> tuple[RemoteFile, ...]:
    return tuple(RemoteFile(name, f"{base}/{name}", unpack=name.endswith(".zip")) for name in names)


ISIC2016 = Source(
    key="isic2016",
    title="ISIC 2016 challenge, part 3: 1,279 dermoscopic images, benign or malignant",
    homepage=f"{_CHALLENGES}#2016",
    licence=CC0,
    attribution=_ISIC,
    citation="Gutman D. et al. Skin lesion analysis toward melanoma detection: a challenge at the "
    "International Symposium on Biomedical Imaging (ISBI) 2016. https://arxiv.org/abs/1605.01397",
    files=_files(
        f"{_S3}/2016",
        "ISBI2016_ISIC_Part3_Training_GroundTruth.csv",
        "ISBI2016_ISIC_Part3_Test_GroundTruth.csv",
        "ISBI2016_ISIC_Part3_Test_Data.zip",
        "ISBI2016_ISIC_Part3_Training_Data.zip",
    ),
    layout="isic2016",
    notes="It names neither lesions nor patients. Later challenges contain its images: join "
    "collections with `lesionlab join`, which finds the same image twice.",
)
ISIC2017 = Source(
    key="isic2017",
    title="ISIC 2017 challenge, part 3: 2,750 images of melanoma, seborrheic keratosis and nevi",
    homepage=f"{_CHALLENGES}#2017",
    licence=CC0,
    attribution=_ISIC,
    citation="Codella N. et al. Skin lesion analysis toward melanoma detection: a challenge at the "
    "2017 International Symposium on Biomedical Imaging (ISBI). https://arxiv.org/abs/1710.05006",
    files=_files(
        f"{_S3}/2017",
        "ISIC-2017_Training_Part3_GroundTruth.csv",
        "ISIC-2017_Validation_Part3_GroundTruth.csv",
        "ISIC-2017_Test_v2_Part3_GroundTruth.csv",
        "ISIC-2017_Validation_Data.zip",
        "ISIC-2017_Test_v2_Data.zip",
        "ISIC-2017_Training_Data.zip",
    ),
    layout="isic2017",
    notes="It names neither lesions nor patients. Image files have superpixels beside them, which "
    "are no photographs.",
)
ISIC2019 = Source(
    key="isic2019",
    title="ISIC 2019 challenge: 25,331 dermoscopic images for training, eight diagnoses",
    homepage=f"{_CHALLENGES}#2019",
    licence=CC_BY_NC,
    attribution="BCN_20000: Department of Dermatology, Hospital Clínic de Barcelona; HAM10000: "
    "ViDIR Group, Medical University of Vienna; MSK: anonymous; " + _ISIC,
    citation="Tschandl P. et al. The HAM10000 dataset. Sci. Data 5, 180161 (2018). "
    "https://doi.org/10.1038/sdata.2018.161\n"
    "Codella N. et al. https://arxiv.org/abs/1710.05006\n"
    "Combalia M. et al. BCN20000: dermoscopic lesions in the wild. "
    "https://arxiv.org/abs/1908.02288",
    files=_files(
        f"{_S3}/2019",
        "ISIC_2019_Training_GroundTruth.csv",
        "ISIC_2019_Training_Metadata.csv",
        "ISIC_2019_Training_Input.zip",
    ),
    layout="isic2019",
    notes="It contains HAM10000: a model of the one must not be tested on the other. Patients are "
    "not named, and lesions not for all images. Sites of the archive's own words.",
)
ISIC2020 = Source(
    key="isic2020",
    title="ISIC 2020 challenge (SIIM-ISIC): 33,126 dermoscopic images of 2,056 patients",
    homepage="https://doi.org/10.34970/2020-ds01",
    licence=CC_BY_NC,
    attribution=f"{_ISIC} and the institutions named on its page",
    citation="Rotemberg V. et al. A patient-centric dataset of images and metadata for identifying "
    "melanomas using clinical context. Sci. Data 8, 34 (2021). "
    "https://doi.org/10.1038/s41597-021-00815-z",
    files=_files(
        f"{_S3}/2020",
        "ISIC_2020_Training_GroundTruth_v2.csv",
        "ISIC_2020_Training_JPEG.zip",
    ),
    layout="isic2020",
    labelled="malignant by histopathology; benign by histopathology, experts' agreement or "
    "follow-up",
    notes="Fewer than 2 % of the images are melanomas. 425 pairs of duplicates are published. "
    "Split by patient, which `lesionlab split` does by itself.",
)
ISIC2024 = Source(
    key="isic2024",
    title="ISIC 2024 challenge (SLICE-3D): 401,059 crops of total body photographs",
    homepage="https://doi.org/10.34970/2024-slice-3d",
    licence=CC_BY_NC,
    attribution=f"{_ISIC} and the institutions named on its page",
    citation="Kurtansky N. et al. The SLICE-3D dataset: 400,000 skin lesion image crops extracted "
    "from 3D TBP for skin cancer detection. Sci. Data 11, 884 (2024). "
    "https://doi.org/10.1038/s41597-024-03743-w",
    files=_files(
        f"{_S3}/2024", "ISIC_2024_Training_GroundTruth.csv", "ISIC_2024_Training_Input.zip"
    ),
    layout="isic2024",
    labelled="malignant by histopathology; most benign ones were never biopsied",
    notes="No dermoscopy, and one image in a thousand is malignant.",
)
MILK10K = Source(
    key="milk10k",
    title="MILK10k: 5,240 lesions, each as a clinical photograph and a dermoscopic image",
    homepage="https://doi.org/10.34970/648456",
    licence=CC_BY_NC,
    attribution=f"The contributors that its metadata name; {_ISIC}",
    citation="MILK study team. MILK10k. ISIC Archive (2025). https://doi.org/10.34970/648456",
    files=_files(
        _MILK,
        "MILK10k_Training_GroundTruth.csv",
        "MILK10k_Training_Metadata.csv",
        "MILK10k_Training_Input.zip",
    ),
    layout="milk10k",
    skin_tones="a class from 0 (dark) to 5 (light) for every image",
    notes="Eleven classes. The dermoscopic image of each lesion is taken; lesions are named, "
    "patients are not.",
)
BCN20000 = Source(
    key="bcn20000",
    title="BCN20000: 18,946 dermoscopic images in the wild, nails and mucosa included",
    homepage="https://doi.org/10.6084/m9.figshare.24140028",
    licence=CC_BY_NC,
    attribution="Department of Dermatology, Hospital Clínic de Barcelona",
    citation="Hernández-Pérez C. et al. BCN20000: dermoscopic lesions in the wild. Sci. Data 11, "
    "641 (2024). https://doi.org/10.1038/s41597-024-03387-w",
    files=(),
    layout="bcn20000",
    notes="Most of it is in ISIC 2019. Exports of the ISIC Archive are read, too.",
    unconfirmed="its licence: CC BY 4.0 has been reported of its page, too; the stricter one "
    "stands here",
    ask="download it from its page, no account needed",
)
HIBA = Source(
    key="hiba",
    title="HIBA: 1,616 clinical and dermoscopic images, Hospital Italiano de Buenos Aires",
    homepage="https://doi.org/10.34970/587329",
    licence=CC_BY,
    attribution="Hospital Italiano de Buenos Aires",
    citation="Ricci Lara M. et al. A dataset of skin lesion images collected in Argentina for the "
    "evaluation of AI tools in this population. Sci. Data 10, 712 (2023). "
    "https://doi.org/10.1038/s41597-023-02630-0",
    files=(),
    layout="isic-archive",
    skin_tones="Fitzpatrick type where known",
    notes="Squamous cell carcinoma is a class of its own (scc). Some images are no dermoscopy.",
    ask="download the collection with its metadata from the ISIC Archive, no account needed",
)
MSK = Source(
    key="msk",
    title="MSK: dermoscopic images of Memorial Sloan Kettering Cancer Center, MSK-1 to MSK-5",
    homepage="https://www.isic-archive.com",
    licence=CC0,
    attribution="Memorial Sloan Kettering Cancer Center",
    citation="Codella N. et al. https://arxiv.org/abs/1710.05006",
    files=(),
    layout="isic-archive",
    notes="Much of it is in the challenges of 2016, 2017 and 2019. The licence stands at each "
    "image.",
    unconfirmed="names and licences of its five parts",
    ask="download the collections MSK-1 to MSK-5 with their metadata from the ISIC Archive",
)
PAD_UFES_20 = Source(
    key="pad-ufes-20",
    title="PAD-UFES-20: 2,298 photographs of 1,373 patients, taken with phones in Brazil",
    homepage="https://doi.org/10.17632/zr7vgbcyr2",
    licence=CC_BY,
    attribution="Dermatological and Surgical Assistance Program, Federal University of Espírito "
    "Santo",
    citation="Pacheco A. et al. PAD-UFES-20: a skin lesion dataset composed of patient data and "
    "clinical images collected from smartphones. Data in Brief 32, 106221 (2020). "
    "https://doi.org/10.1016/j.dib.2020.106221",
    files=(),
    layout="pad-ufes-20",
    skin_tones="Fitzpatrick type for most lesions",
    labelled="58 % by biopsy, all cancers among them; others by the agreement of dermatologists",
    notes="No dermoscopy. Lesion ids repeat among patients: both together name a lesion. Its SCC "
    "holds Bowen's disease.",
    ask="download it from its page, no account needed, and unpack imgs_part_1 to 3",
)
PH2 = Source(
    key="ph2",
    title="PH2: 200 dermoscopic images of melanocytic lesions, with masks",
    homepage="https://www.fc.up.pt/addi/ph2%20database.html",
    licence=Licence(
        "PH2",
        "PH2's own terms",
        "https://www.fc.up.pt/addi/ph2%20database.html",
        "For research and education only.",
    ),
    attribution="Dermatology Service of Hospital Pedro Hispano, Matosinhos, Portugal",
    citation="Mendonça T. et al. PH2 - a dermoscopic image database for research and benchmarking. "
    "EMBC (2013). https://doi.org/10.1109/EMBC.2013.6610779",
    files=(),
    layout="ph2",
    skin_tones="Fitzpatrick types II and III",
    labelled="by an expert; by histopathology for some",
    notes="40 melanomas, 80 common and 80 atypical nevi. It names no patients.",
    unconfirmed="how it is asked for, and whether its page still answers; copies elsewhere are not "
    "the publisher's",
    ask="ask for it on its page",
)
DERM7PT = Source(
    key="derm7pt",
    title="Derm7pt: 1,011 cases with a clinical and a dermoscopic image, and the 7-point checklist",
    homepage="https://derm.cs.sfu.ca",
    licence=Licence(
        "Derm7pt",
        "Derm7pt's own terms",
        "https://derm.cs.sfu.ca",
        "For research without commerce, after registration.",
    ),
    attribution="Interactive Atlas of Dermoscopy; Simon Fraser University",
    citation="Kawahara J. et al. Seven-point checklist and skin lesion classification using "
    "multitask multimodal neural nets. IEEE J. Biomed. Health Inform. 23, 538-546 (2019). "
    "https://doi.org/10.1109/JBHI.2018.2824327",
    files=(),
    layout="derm7pt",
    notes="The dermoscopic image of each case is taken; official parts are kept. Lentigo, "
    "melanosis and miscellaneous are none of the seven classes.",
    unconfirmed="its licence",
    ask="register on its page",
)
FITZPATRICK17K = Source(
    key="fitzpatrick17k",
    title="Fitzpatrick17k: 16,577 clinical photographs of two atlases, 114 conditions",
    homepage="https://github.com/mattgroh/fitzpatrick17k",
    licence=Licence(
        "CC-BY-NC-SA-3.0",
        "Creative Commons Attribution-NonCommercial-ShareAlike 3.0",
        "https://creativecommons.org/licenses/by-nc-sa/3.0/legalcode",
        "The annotations: without commerce, under the same terms. The photographs belong to the "
        "atlases that they come from.",
    ),
    attribution="Groh M. et al.; DermaAmin and Atlas Dermatologico",
    citation="Groh M. et al. Evaluating deep neural networks trained on clinical images in "
    "dermatology with the Fitzpatrick 17k dataset. CVPR workshops (2021). "
    "https://arxiv.org/abs/2104.09957",
    files=(),
    layout="fitzpatrick17k",
    skin_tones="Fitzpatrick types I to VI, judged from the photograph",
    labelled="by the atlases; not checked by histopathology",
    notes="No dermoscopy. Many addresses are dead; what is not there is counted. It has "
    "duplicates and wrong labels (https://arxiv.org/abs/2401.14497).",
    ask="its table has the address of every photograph, or ask its authors by the form on its page",
)
DDI = Source(
    key="ddi",
    title="DDI: 656 clinical photographs of diverse skin tones, 570 patients",
    homepage="https://ddi-dataset.github.io",
    licence=Licence(
        "DDI",
        "Stanford's research use agreement",
        "https://ddi-dataset.github.io",
        "For research without commerce, not to be passed on.",
    ),
    attribution="Stanford Clinics",
    citation="Daneshjou R. et al. Disparities in dermatology AI performance on a diverse, curated "
    "clinical image set. Sci. Adv. 8, eabq6147 (2022). https://doi.org/10.1126/sciadv.abq6147",
    files=(),
    layout="ddi",
    skin_tones="Fitzpatrick types I-II, III-IV and V-VI, about a third each",
    labelled="by histopathology",
    notes="No dermoscopy, and its table names no patients. For testing, not for training.",
    ask="register with Stanford AIMI, see its page",
)
OTHERS = (
    ISIC2016,
    ISIC2017,
    ISIC2019,
    ISIC2020,
    ISIC2024,
    MILK10K,
    BCN20000,
    HIBA,
    MSK,
    PAD_UFES_20,
    PH2,
    DERM7PT,
    FITZPATRICK17K,
    DDI,
)
