"""A server over a tiny bundle."""

from __future__ import annotations

import pytest
from servers import Held, serving


@pytest.fixture
def held(bundle_file):
    return Held(bundle_file)


@pytest.fixture(scope="module")
def client(bundle_file):
    with serving(bundle_file) as found:
        yield found
