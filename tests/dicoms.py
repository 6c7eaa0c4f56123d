"""Dermoscopic DICOM files, full of what must not leave them."""

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import DermoscopicPhotographyImageStorage, ExplicitVRLittleEndian


def dataset(syntax=ExplicitVRLittleEndian, kind=DermoscopicPhotographyImageStorage):
    """A file without pixels."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.file_meta.MediaStorageSOPClassUID = kind
    data.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    data.SOPClassUID, data.SOPInstanceUID = kind, "1.2.3"
    data.PatientName, data.PatientID = "Doe^Jane", "SECRET-17"
    data.PatientBirthDate, data.InstitutionName = "19700101", "Clinic of Secrets"
    return data
