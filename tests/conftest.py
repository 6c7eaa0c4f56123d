"""What every test gets: no network, private caches, no window, and data to work on."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


class NetworkBlocked(AssertionError):
    """A test reached for the network."""


def _is_local(address):
    if isinstance(address, (str, bytes)):  # a path: AF_UNIX
        return True
    host = address[0]
    host = host.decode() if isinstance(host, bytes) else str(host or "localhost")
    return host in ("localhost", "::1") or host.startswith("127.")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """Refuse every connection and every name that is not of this machine."""

    def guarded(real):
        def connect(self, address):
            if not _is_local(address):
                raise NetworkBlocked(f"tests need no network, but this one wants {address}")
            return real(self, address)

        return connect

    resolve = socket.getaddrinfo

    def getaddrinfo(host, *args, **kwargs):
        if not _is_local((host,)):
            raise NetworkBlocked(f"tests need no network, but this one looks up {host}")
        return resolve(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", guarded(socket.socket.connect))
    monkeypatch.setattr(socket.socket, "connect_ex", guarded(socket.socket.connect_ex))
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def pytest_configure(config):
    """Draw to files and look at no settings of the user's, from the first import on."""
    os.environ["MPLBACKEND"] = "Agg"
    os.environ["HF_HUB_OFFLINE"] = "1"
    if hasattr(config, "workerinput"):  # one of several processes: threads of all would collide
        os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session", autouse=True)
def _shared_matplotlib_cache(tmp_path_factory):
    """One font cache for the session: building it takes seconds."""
    patch = pytest.MonkeyPatch()
    patch.setenv("MPLCONFIGDIR", str(tmp_path_factory.mktemp("matplotlib")))
    yield
    patch.undo()


@pytest.fixture(autouse=True)
def _private_caches(tmp_path_factory, monkeypatch):
    """Give each test a home and caches of its own."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    for name in ("HF_HOME", "TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(home / name.lower()))


@pytest.fixture(scope="session")
def ham(tmp_path_factory):
    """A small drawn data set in HAM10000's layout, 60 lesions; not to be written to."""
    from lesionlab.data.synthetic.dataset import synthetic

    return synthetic(tmp_path_factory.mktemp("drawn") / "ham", lesions=60, size=(60, 80), seed=1)


@pytest.fixture(scope="session")
def bundle_file(tmp_path_factory):
    """A bundle with a tiny network of random weights that takes age, sex and site."""
    from bundles import tiny_bundle

    return tiny_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def ham_copy(ham, tmp_path):
    """A copy of `ham` that a test may damage."""
    return Path(shutil.copytree(ham, tmp_path / "ham"))


@pytest.fixture(scope="session")
def drawn(ham, tmp_path_factory):
    """The saved catalogue of these lesions, and a split of it by lesion."""
    from lesionlab.data.catalogue.catalogue import catalogue
    from lesionlab.data.splits import split

    data = catalogue(ham, out=tmp_path_factory.mktemp("catalogue"))
    return data, split(data, kind="holdout", shares=(0.6, 0.2, 0.2))


@pytest.fixture(scope="session")
def real_ham():
    """The real HAM10000, to be read only; skips where it is not at hand."""
    default = ROOT.parent / "shared" / "ham10000"
    folder = Path(os.environ.get("LESIONLAB_HAM10000") or default).resolve()
    if not (folder / "HAM10000_metadata.csv").is_file():
        pytest.skip(f"the real HAM10000 is not at {folder}")
    return folder


@pytest.fixture(scope="session")
def photographs():
    """60 photographs of ImageNet's classes, to be read only; skips where they are not at hand."""
    default = ROOT.parent / "shared" / "natural"
    folder = Path(os.environ.get("LESIONLAB_NATURAL") or default).resolve()
    if not (folder / "ids.txt").is_file():
        pytest.skip(f"there are no photographs at {folder}; LESIONLAB_NATURAL names another")
    return folder


@pytest.fixture(scope="session")
def real(real_ham):
    """The catalogue of the real HAM10000; reading all its files takes seconds."""
    from lesionlab.data.catalogue.catalogue import catalogue

    return catalogue(real_ham)
