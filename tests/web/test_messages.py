"""What the server says in the language that a request wishes for."""

import ast
import json
import re
from importlib.resources import files
from pathlib import Path

import pytest
from servers import ask, picture, serving

import lesionlab
from lesionlab.web.messages import LANGUAGES, translated, wished
from lesionlab.web.schemas import Prediction

SOURCE = Path(lesionlab.__file__).parent
MESSAGES = json.loads((files("lesionlab.web") / "messages.json").read_text(encoding="utf-8"))
SPEAKERS = ("web/*.py", "data/images/decode.py", "prediction/predictor.py")
"""Who says what the page can show."""


def templates():
    """Every text of these modules, with {} for what changes."""
    found = set()
    for path in (path for pattern in SPEAKERS for path in SOURCE.glob(pattern)):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [each.value if isinstance(each, ast.Constant) else "{}"
                         for each in node.values]  # fmt: skip
                found.add("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


def test_each_translated_sentence_is_still_said():
    said = templates()
    said |= {f"The image{each[2:]}." for each in said if each.startswith("{} ")}
    said |= {each.replace("{}", "a second") for each in said}
    said |= {each.replace("{}", "{} seconds") for each in said}
    formats = "a JPEG, PNG, BMP, TIFF, WebP or GIF image"
    said |= {each.replace("is not {} that", f"is not {formats} that") for each in said}
    assert set(MESSAGES) - said == set()


def test_translations_keep_every_value():
    for text, words in MESSAGES.items():
        assert list(words) == list(LANGUAGES[1:])
        assert all(each.count("{}") == text.count("{}") for each in words.values()), text


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("de-AT,de;q=0.9,en;q=0.5", "de"),
        ("en;q=0.3, fr ; q=0.8", "fr"),
        ("pt-BR, es;q=0.1", "es"),
        ("de;q=0, es", "es"),
        ("deutsch", "en"),
        ("de;q=zero", "en"),
        ("*", "en"),
        ("", "en"),
        ("," * 5000 + "de", "en"),
    ],
)
def test_the_best_language_that_there_is(header, language):
    assert wished(header) == language


def test_numbers_are_written_so_that_nobody_misreads_them():
    text = "A question may have 32,000,000 bytes. Send fewer or smaller images."
    assert "32\u202f000\u202f000 Byte" in translated(text, "de")
    assert translated(text, "en") == text
    assert translated("Nobody translated this.", "de") == "Nobody translated this."


def test_answers_and_refusals_are_in_the_language_of_the_request(bundle_file):
    with serving(bundle_file, max_bytes=100_000) as client:
        contents = (picture(1), b"nothing", b"", picture(2, size=(300, 200))[:-500])
        right = ask(client, *contents).json()
        large = {each: ask(client, bytes(200_000), headers={"Accept-Language": each}).json()
                 for each in LANGUAGES}  # fmt: skip
        texts = {right["results"][1]["error"]["message"]}
        for language in LANGUAGES[1:]:
            answer = ask(client, *contents, headers={"Accept-Language": f"{language}-XX"}).json()
            Prediction.model_validate(answer)
            for each, english in zip(answer["results"], right["results"], strict=True):
                assert each["reason_text"] == MESSAGES[english["reason_text"]][language]
                assert each["reason"] == english["reason"]
            error = answer["results"][2]["error"]
            assert error == {"kind": "empty_file",
                             "message": MESSAGES["The image has 0 bytes."][language]}  # fmt: skip
            broken = answer["results"][3]["error"]["message"]
            english = right["results"][3]["error"]["message"]
            assert broken != english
            assert re.search(r": (.*)\.$", english)[1] in broken  # why, as the decoder says it
            texts.add(answer["results"][1]["error"]["message"])
        assert len(texts) == len(LANGUAGES)
    assert {each["error"]["kind"] for each in large.values()} == {"too_many_bytes"}
    assert len({each["error"]["message"] for each in large.values()}) == len(LANGUAGES)
    assert "100\u202f000 octets" in large["fr"]["error"]["message"]
