"""Ask a server of lesionlab from Python: typed answers, and patience while it is busy.

    from lesionlab.client import Client

    client = Client("http://127.0.0.1:8000")
    result = client.predict("photo.jpg", age=55, site="back").results[0]
    print(result.predicted, result.refer, result.reason_text)

It needs the extra `client` (pydantic), and neither a model nor torch.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import requests

from lesionlab._version import __version__
from lesionlab.errors import DataError, LesionlabError

try:
    from lesionlab.web.schemas import Error, ErrorBody, Model, Prediction
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"lesionlab.client needs {error.name}: pip install 'lesionlab[client]'"
    ) from error

Answer = TypeVar("Answer", Model, Prediction)
_SHORTEST_WAIT = 0.1  # seconds, lest a server that says 0 is asked in circles


class ServerError(LesionlabError):
    """A server that refused, failed or is not there.

    Attributes:
        status: of HTTP; 0: there was no answer.
        kind: the server's word for it, such as "no_key"; "" = it said none.
    """

    def __init__(self, message: str, status: int = 0, kind: str = "") -> None:
        super().__init__(message)
        self.status, self.kind = status, kind


class Client:
    """Asks one server, over connections that stay open; use one per thread.

    Fields that a newer server sends and this version does not know are left out.

    Args:
        address: of the server, with the prefix that a proxy gives it: https://derm.example/mole.
        api_key: where the server asks for one.
        patience: seconds that a question may wait, all in all, for a server that is busy and says
            when to come again.
        timeout: seconds to wait for a connection, and for an answer once it is asked.
    """

    def __init__(
        self, address: str, api_key: str = "", *, patience: float = 60.0, timeout: float = 60.0
    ) -> None:
        self._address = address.rstrip("/")
        self._patience, self._timeout = patience, timeout
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"lesionlab/{__version__}"
        if api_key:
            self._session.headers["X-API-Key"] = api_key

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def predict(
        self,
        *images: Path | str | bytes | Sequence[Path | str | bytes],
        age: float | None = None,
        sex: str = "",
        site: str = "",
        maps: Literal["none", "predicted", "all"] = "none",
    ) -> Prediction:
        """Answers about images of one person, in their order.

        An image that cannot be read is a result with an error, also where none can.

        Args:
            images: files, or their bytes, one by one or as a list.
            age: in years; None: unknown.
            sex: "" = unknown.
            site: where on the body; "" = unknown.
            maps: of which classes to get class activation maps.

        Raises:
            DataError: if a file cannot be read.
            ServerError: if there is no answer.
        """
        told = {"age": age, "sex": sex, "site": site, "maps": maps}
        fields = {name: str(value) for name, value in told.items() if value not in (None, "")}
        files = [
            ("images", _file(one))
            for each in images
            for one in ([each] if isinstance(each, Path | str | bytes) else each)
        ]
        return self._asked(Prediction, "POST", "/v1/predict", data=fields, files=files)

    def model(self) -> Model:
        """What the model is and takes.

        Raises:
            ServerError: if there is no answer.
        """
        return self._asked(Model, "GET", "/v1/model")

    def ready(self) -> bool:
        """Whether the server is there and takes questions."""
        try:
            return self._session.get(f"{self._address}/readyz", timeout=self._timeout).ok
        except requests.RequestException:
            return False

    def _asked(self, kind: type[Answer], method: str, path: str, **what: Any) -> Answer:
        """An answer; asked again as long as the server says when, and patience lasts."""
        until = time.monotonic() + self._patience
        while True:
            try:
                answer = self._session.request(
                    method, f"{self._address}{path}", timeout=self._timeout, **what
                )
            except requests.RequestException as error:
                raise ServerError(
                    f"{self._address} does not answer ({type(error).__name__}). Does "
                    "`lesionlab serve` run there, and is the address right?"
                ) from error
            wait = _wait(answer.status_code, answer.headers)
            if wait is None or time.monotonic() + wait > until:
                break
            time.sleep(wait)
        try:
            if answer.ok or (answer.status_code == 422 and b'"results"' in answer.content):
                return kind.model_validate_json(answer.content, extra="ignore")
            told = Error.model_validate_json(answer.content, extra="ignore").error
        except ValueError:  # a proxy's page, or another program's
            told = ErrorBody(
                kind="",
                message=f"{answer.url} answers {answer.status_code} {answer.reason}, and not as a "
                "server of lesionlab does. Check the address, and what stands in front of it.",
            )
        raise ServerError(told.message, answer.status_code, told.kind)


def _file(image: Path | str | bytes) -> tuple[str, bytes]:
    if isinstance(image, bytes):
        return "image", image
    try:
        return Path(image).name, Path(image).read_bytes()
    except OSError as error:
        raise DataError(f"{image} cannot be read: {error.strerror}. Check the path.") from error


def _wait(status: int, headers: Mapping[str, str]) -> float | None:
    """Seconds after which to ask again; None: asking again would help nothing."""
    said = headers.get("Retry-After", "")
    if status not in (429, 503) or not said.isdigit():
        return None
    return max(float(said), _SHORTEST_WAIT)
