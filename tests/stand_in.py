"""A stand-in for the server, for the page's tests: the same contract, answers from mean colour.

It fails on demand: `plan` holds what the next requests about images get instead of an answer.
"""

from __future__ import annotations

import io
import json
import socket
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

import lesionlab

STATIC = Path(lesionlab.__file__).parent / "web" / "static"
POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".jpg": "image/jpeg",
}
NAMES = {
    "akiec": "Actinic keratosis / intraepithelial carcinoma",
    "bcc": "Basal cell carcinoma",
    "bkl": "Benign keratosis",
    "df": "Dermatofibroma",
    "mel": "Melanoma",
    "nv": "Melanocytic nevus",
    "vasc": "Vascular lesion",
}
NOTICE = (
    "Research and education only. Not a medical device. "
    "Not for diagnosis, triage or screening. See a clinician."
)
MALIGNANT = ("akiec", "bcc", "mel")
LIMITS = {"malignancy": (MALIGNANT, 0.256, 0.05, 117), "melanoma": (("mel",), 0.064, 0.03, 61)}
REFERRAL = {
    "promise": "For lesions like those tested, at most 5 of 100 malignant lesions and 3 of 100 "
    "melanomas are missed by this rule.",
    "refers_all": False,
    "malignant": list(MALIGNANT),
    "limits": [
        {"name": name, "classes": list(of), "threshold": limit, "miss": miss, "lesions": lesions}
        for name, (of, limit, miss, lesions) in LIMITS.items()
    ],
    "points": {"akiec": 0.15, "bcc": 0.07, "mel": 0.06},
    "measured": {
        "text": "In its test (7,470 lesions) it left 3.1 of 100 malignant lesions and 2.1 of 100 "
        "melanomas unreferred, and referred 33.5 of 100 benign ones.",
        "malignant": {"lesions": 1169, "missed": 0.031, "low": 0.022, "high": 0.043},
        "melanoma": {"lesions": 614, "missed": 0.021, "low": 0.012, "high": 0.036},
        "benign": {"lesions": 6301, "referred": 0.335, "low": 0.324, "high": 0.346},
    },
}
WORTH = {
    "fields": ["age", "sex", "site"],
    "text": "Balanced accuracy 0.667 with age, sex and site, 0.574 without.",
    "images": 10015,
    "lesions": 7470,
    "balanced_accuracy": {
        "known": {"value": 0.667, "low": 0.645, "high": 0.689},
        "unknown": {"value": 0.574, "low": 0.552, "high": 0.595},
        "difference": {"value": 0.093, "low": 0.078, "high": 0.108},
    },
    "macro_auroc": {
        "known": {"value": 0.938, "low": 0.932, "high": 0.944},
        "unknown": {"value": 0.914, "low": 0.907, "high": 0.921},
        "difference": {"value": 0.024, "low": 0.019, "high": 0.029},
    },
}
REASON_TEXTS = {
    "unreadable": "The image cannot be read.",
    "unlike": "This does not look like the dermatoscopic images that the model was made for.",
    "malignancy_likely": "A malignant class is the likeliest, or malignancy is likelier than not.",
    "malignancy_possible": "Malignancy is not excluded at the stated risk.",
    "benign_undecided": "Nothing malignant is suspected at the stated risk; which benign class it "
    "is stays undecided.",
    "": "Nothing malignant is suspected at the stated risk.",
}
MODEL = {
    "name": "stand-in",
    "version": "1",
    "fingerprint": "0123456789abcdef",
    "precision": "fp32",
}


@dataclass(frozen=True)
class Planned:
    """What a request gets instead of an answer."""

    status: int = 0  # 0: answer after all, after the delay
    message: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    hang_up: bool = False


@dataclass(frozen=True)
class Asked:
    """What a request about an image held."""

    name: str
    content: bytes
    fields: dict[str, str]
    key: str
    language: str

    @property
    def size(self) -> tuple[int, int]:
        return Image.open(io.BytesIO(self.content)).size


def model(**changes):
    """What `/v1/model` answers."""
    return {
        **MODEL,
        "classes": [
            {
                "label": label,
                "name": name,
                "malignant": label in MALIGNANT,
                "quality": quality(label),
            }
            for label, name in NAMES.items()
        ],
        "fields": ["age", "sex", "site"],
        "sites": ["back", "face", "lower extremity"],
        "sexes": ["female", "male"],
        "input": {"height": 225, "width": 300, "fit": "stretch"},
        "coverage": 0.9,
        "thresholds": {"at_90_sensitivity/mel": 0.13, "at_95_sensitivity/mel": 0.07},
        "metadata_worth": WORTH,
        "maps": True,
        "licence": "Apache-2.0",
        "notice": NOTICE,
        "card": None,
        "audit_days": None,
        "drift": None,
        "referral": REFERRAL,
        **changes,
    }


def quality(label):
    """How good the model is at a class; of dermatofibroma that is not known."""
    if label == "df":
        return None
    name = NAMES[label]
    return {
        "label": label,
        "name": name,
        "recall": {"value": 0.63, "low": 0.59, "high": 0.67},
        "precision": {"value": 0.49, "low": 0.45, "high": 0.53},
        "share": 0.111,
        "text": f"Of 100 images of {name} this model calls 63 {name}.",
    }


def answer(name, content, maps="none"):
    """One result: the redder the image, the likelier a nevus; grey ones are unlike."""
    try:
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
    except Exception as error:
        return unreadable(name, str(error))
    colour = np.asarray(image.resize((32, 24)), dtype=float).mean((0, 1))
    warmth = (colour[0] - colour[2]) / 255
    logits = np.array([0.4, 0.1, 0.9, -1.0, 1.6, 12 * warmth, -1.5])
    chance = np.exp(logits - logits.max())
    chance /= chance.sum()
    ranked = np.argsort(-chance)
    inside = set(ranked[: int(np.searchsorted(np.cumsum(chance[ranked]), 0.9)) + 1].tolist())
    unlike = bool(np.ptp(colour) < 12)
    labels = list(NAMES)
    by_label = dict(zip(labels, chance.tolist(), strict=True))
    sums = {name: sum(by_label[each] for each in of) for name, (of, *_) in LIMITS.items()}
    reached = {name: sums[name] >= limit for name, (_, limit, *_) in LIMITS.items()}
    if unlike:
        reason = "unlike"
    elif labels[ranked[0]] in MALIGNANT or sums["malignancy"] >= 0.5:
        reason = "malignancy_likely"
    elif any(reached.values()) or any(labels[i] in MALIGNANT for i in inside):
        reason = "malignancy_possible"
    else:
        reason = "" if len(inside) == 1 else "benign_undecided"
    wanted = {"none": [], "predicted": ranked[:1], "all": ranked}[maps]
    return {
        "name": name,
        "width": image.width,
        "height": image.height,
        "error": None,
        "predicted": labels[ranked[0]],
        "classes": [
            {
                "label": labels[i],
                "name": NAMES[labels[i]],
                "probability": float(chance[i]),
                "in_set": i in inside,
                "malignant": labels[i] in MALIGNANT,
            }
            for i in ranked.tolist()
        ],
        "set": [labels[i] for i in sorted(inside)],
        "refer": reason not in ("", "benign_undecided"),
        "reason": reason,
        "reason_text": REASON_TEXTS[reason],
        "malignancy": {
            "probability": sums["malignancy"],
            "limits": [
                {
                    "name": name,
                    "probability": sums[name],
                    "threshold": limit,
                    "reached": reached[name],
                }
                for name, (_, limit, *_) in LIMITS.items()
            ],
        },
        "quality": quality(labels[ranked[0]]),
        "novelty": {"score": 12.3, "threshold": 40.1, "unlike": unlike},
        "thresholds": [
            {
                "name": f"at_{found}_sensitivity/mel",
                "label": "mel",
                "threshold": threshold,
                "reached": bool(chance[4] >= threshold),
                "class_name": NAMES["mel"],
                "sensitivity": found / 100,
                "text": f"Melanoma: the threshold that finds {found} of 100 melanomas (part val).",
            }
            for found, threshold in ((90, 0.13), (95, 0.07))
        ],
        "maps": [a_map(labels[i], image) for i in wanted],
        "similar": None,
    }


def a_map(label, image):
    """The darkness of the image in a grid; of another class the same, mirrored; one is blank."""
    dark = 255 - np.asarray(image.convert("L").resize((5, 4), Image.Resampling.BOX), dtype=float)
    if list(NAMES).index(label) % 2:
        dark = dark[:, ::-1]
    grid = np.zeros((4, 5)) if label == "vasc" else (dark - dark.min()) / max(np.ptp(dark), 1)
    return {
        "label": label,
        "rows": 4,
        "columns": 5,
        "values": grid.ravel().tolist(),
        "blank": label == "vasc",
    }


def unreadable(name, message):
    """The result of a file that is no image."""
    return {
        "name": name,
        "width": None,
        "height": None,
        "error": {"kind": "unreadable", "message": message},
        "refer": True,
        "reason": "unreadable",
        "reason_text": "The image cannot be read.",
        "predicted": None,
        "classes": [],
        "set": [],
        "malignancy": None,
        "quality": None,
        "novelty": None,
        "thresholds": [],
        "maps": [],
        "similar": None,
    }


class _Handler(BaseHTTPRequestHandler):
    server: StandIn

    def log_message(self, *_):
        """Keep the tests' output clean."""

    def do_GET(self):
        path = self.path.split("?")[0]
        if path == "/v1/model" and self._allowed():
            self._json(200, self.server.model)
        elif path in ("/healthz", "/readyz"):
            self._json(200, {"status": "ok"})
        elif path == "/v1/card":
            self._send(200, b"<!doctype html><title>Card</title><h1>Card</h1>", "text/html")
        elif path == "/" or path.startswith("/static/"):
            self._file(STATIC / (path.removeprefix("/static/") if path != "/" else "index.html"))
        elif path != "/v1/model":
            self._fault(404, "There is nothing here.")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self._allowed():
            return
        asked = self._parsed(body)
        self.server.asked.extend(asked)
        planned = self.server.plan.pop(0) if self.server.plan else Planned()
        # Counted no longer than until the answer is sent: then the next may come.
        with self.server.counted():
            time.sleep(planned.delay)
            status, body = self._answer(planned, asked)
        if planned.hang_up:
            self.close_connection = True
            self.connection.close()
        else:
            self._json(status, body, planned.headers if planned.status else None)

    def _answer(self, planned, asked):
        if planned.status:
            return planned.status, _fault(planned.message)
        results = [answer(each.name, each.content, each.fields["maps"]) for each in asked]
        for each in results:
            each["similar"] = None if each["error"] else self.server.similar
        readable = any(not each["error"] for each in results)
        whole = {
            "model": MODEL,
            "notice": NOTICE,
            "coverage": 0.9,
            "referral": self.server.model["referral"],
            "results": results,
        }
        return 200 if readable else 422, whole

    def _parsed(self, body):
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        parts = list(BytesParser(policy=HTTP).parsebytes(head + body).iter_parts())
        named = [(part.get_param("name", header="content-disposition"), part) for part in parts]
        fields = {
            name: part.get_payload(decode=True).decode() for name, part in named if name != "images"
        }
        key = self.headers.get("X-API-Key", "")
        return [
            Asked(
                part.get_filename(),
                part.get_payload(decode=True),
                fields,
                key,
                self.headers.get("Accept-Language", ""),
            )
            for name, part in named
            if name == "images"
        ]

    def _allowed(self):
        wanted = self.server.key
        if not wanted or self.headers.get("X-API-Key") == wanted:
            return True
        self._fault(401, "Send the key in the header X-API-Key.")
        return False

    def _fault(self, status, message):
        self._json(status, _fault(message))

    def _json(self, status, body, headers=None):
        self._send(status, json.dumps(body).encode(), "application/json", headers)

    def _file(self, path):
        self._send(200, path.read_bytes(), TYPES[path.suffix])

    def _send(self, status, body, kind, headers=None):
        self.send_response(status)
        fixed = {"Content-Type": kind, "Content-Length": str(len(body))}
        for name, value in {
            **fixed,
            "Content-Security-Policy": POLICY,
            "X-Content-Type-Options": "nosniff",
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _fault(message):
    return {"error": {"kind": "planned", "message": message}}


class StandIn(ThreadingHTTPServer):
    """The server on a free port of this machine; a context that starts and stops it."""

    daemon_threads = False  # so that closing waits for the answers under way

    def __init__(self, port=0):
        super().__init__(("127.0.0.1", port), _Handler)
        self.model = model()
        self.similar: dict | None = None
        self.plan: list[Planned] = []
        self.asked: list[Asked] = []
        self.key = ""
        self.now = self.most = 0  # requests at once
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()

    def process_request(self, request, client_address):
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request):
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self):
        """End silent connections, which browsers open ahead; what is being answered is sent."""
        with self._lock:
            for each in self._open:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RD)
        super().server_close()

    @contextmanager
    def counted(self):
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            yield
        finally:
            with self._lock:
                self.now -= 1

    def handle_error(self, *_):
        """A browser that hangs up is no news."""

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()
