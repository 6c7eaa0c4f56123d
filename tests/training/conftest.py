from __future__ import annotations

import pytest

from lesionlab.data.catalogues import catalogue
from lesionlab.data.splitting import split


@pytest.fixture(scope="session")
def drawn(ham, tmp_path_factory):
    """A catalogue of drawn lesions and its split."""
    data = catalogue(ham, out=tmp_path_factory.mktemp("catalogue"))
    return data, split(data, kind="holdout", shares=(0.6, 0.2, 0.2))
