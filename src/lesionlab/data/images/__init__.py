"""From a file to pixels: decoding, DICOM, the image cache."""
