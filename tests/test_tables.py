import numpy as np
import pandas as pd
import pytest

from lesionlab.errors import DataError, FindingsError
from lesionlab.tables import (
    Finding,
    check_predictions,
    classes_of,
    describe,
    findings_table,
    lesions_of,
    read_csv,
    read_predictions,
)


def predictions(**changes):
    table = {
        "image_id": ["a", "b", "c"],
        "target": ["mel", "nv", "nv"],
        "p_mel": [0.7, 0.2, 0.5],
        "p_nv": [0.3, 0.8, 0.5],
    }
    return pd.DataFrame({k: v for k, v in (table | changes).items() if v is not None})


def faults(table):
    with pytest.raises(FindingsError) as caught:
        check_predictions(table)
    return caught.value


def test_what_is_left_out_is_filled_in():
    table = check_predictions(predictions())
    assert list(table["part"]) == ["test"] * 3
    assert list(table["lesion_id"]) == [""] * 3
    assert classes_of(table) == ("mel", "nv")
    assert table["p_mel"].dtype == np.float64


def test_the_table_that_was_given_stays_as_it_is():
    given = predictions()
    check_predictions(given)
    pd.testing.assert_frame_equal(given, predictions())


def test_numbers_read_as_text_are_numbers():
    table = check_predictions(predictions(p_mel=["0.7", "0.2", "0.5"]))
    assert list(table["p_mel"]) == [0.7, 0.2, 0.5]


def test_all_missing_columns_are_named_at_once():
    error = faults(predictions(target=None, image_id=None, p_nv=None))
    assert set(error.findings["column"]) == {"image_id", "target", "p_*"}


def test_every_fault_is_named_at_once():
    table = predictions(
        image_id=["a", "a", ""],
        target=["mel", "scc", np.nan],
        part=["test", "exam", "val"],
        p_mel=["0.7", "much", 1.5],
    )
    error = faults(table)
    assert dict(zip(error.findings["kind"], error.findings["column"], strict=True)) == {
        "no_image_id": "image_id",
        "duplicate": "image_id",
        "no_target": "target",
        "unknown_class": "target",
        "unknown_part": "part",
        "not_a_probability": "p_mel",
    }
    for word in ("a stands twice", "'scc' has no column p_scc", "'exam'", "2 rows outside 0-1"):
        assert word in str(error)


@pytest.mark.parametrize("missing", [np.nan, None, ""])
def test_a_missing_target_is_never_a_class(missing):
    error = faults(predictions(target=["mel", missing, "nv"]))
    assert list(error.findings["kind"]) == ["no_target"]
    assert "1 rows have none" in str(error)


@pytest.mark.parametrize("value", [-0.01, 1.01, np.nan, np.inf])
def test_what_is_no_probability_is_refused(value):
    error = faults(predictions(p_mel=[0.7, 0.2, value]))
    assert list(error.findings["column"]) == ["p_mel"]
    assert "first c" in str(error)


def test_rows_that_do_not_add_up_are_refused():
    error = faults(predictions(p_mel=[0.7, 0.2, 0.4]))
    assert list(error.findings["kind"]) == ["sum"]
    check_predictions(predictions(p_mel=[0.7, 0.2, 0.5004]))


def test_predictions_of_another_program_are_read(tmp_path):
    path = tmp_path / "p.csv"
    predictions().to_csv(path, index=False)
    assert list(read_predictions(path)["p_mel"]) == [0.7, 0.2, 0.5]


def test_an_image_of_unknown_lesion_is_a_lesion_of_its_own():
    table = pd.DataFrame(
        {"image_id": ["a", "b", "c"], "lesion_id": ["L", "", "L"]}, index=[7, 3, 5]
    )
    lesions = lesions_of(table)
    assert list(lesions) == ["L", "b", "L"]
    assert list(lesions.index) == [7, 3, 5]


def test_findings_come_errors_first_and_in_groups():
    table = findings_table(
        [
            Finding("odd", "x is odd", "warning", "sex"),
            Finding("count", "7", "note", "age"),
            Finding("bad", "a", "error", "path"),
            Finding("bad", "b", "error", "path"),
            Finding("bad", "c", "error", "path"),
            Finding("bad", "d", "error", "path"),
        ]
    )
    assert list(table["severity"]) == ["error"] * 4 + ["warning", "note"]
    assert list(table["detail"][:4]) == list("abcd")
    told = describe(table).splitlines()
    assert told[:2] == ["  path", "    bad (4): a; b; c; and 1 more"]


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_cells_are_text_and_empty_cells_are_empty(tmp_path):
    table = read_csv(write(tmp_path / "t.csv", "a,b,c\n007,NaN,\n1e3,,x\n9\n"))
    assert table.to_numpy().tolist() == [["007", "NaN", ""], ["1e3", "", "x"], ["9", "", ""]]


@pytest.mark.parametrize(
    "text", ["a\tb,c\td\n1\t2\t3\n", "\ufeffa\tb,c\td\n1\t2\t3\n", '"a"\t"b,c"\t"d"\r\n1\t2\t3\r\n']
)
def test_tabs_and_marks_are_seen_by_themselves(tmp_path, text):
    table = read_csv(write(tmp_path / "t.tab", text))
    assert list(table.columns) == ["a", "b,c", "d"]
    assert table.iloc[0].tolist() == ["1", "2", "3"]


def test_all_missing_columns_are_named(tmp_path):
    with pytest.raises(FindingsError, match="lacks 2 of the columns it needs: dx, age") as caught:
        read_csv(write(tmp_path / "t.csv", "image_id,sex\na,male\n"), required=("dx", "age"))
    assert list(caught.value.findings["column"]) == ["dx", "age"]
    assert "It has: image_id, sex" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01", ""),
        (b"\x00\x00\x01,\x00\n1,2\n", "not a header"),
        (b"", "not a header"),
        (b"\n\n", "not a header"),
        (b"<!DOCTYPE html>\n<html><body>404, not found</body></html>\n", "web page"),
        (b'a,b\n"1,2\n3,4\n', ""),
        (b"a,b\n1,2\n1,2,3\n", "line 3"),
        (b"image_id,dx\nx,a,nv\ny,b,mel\n", ""),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, content, reason):
    path = write(tmp_path / "t.csv", content)
    with pytest.raises(DataError, match=r"t\.csv is not a CSV table \(.*Save it as") as caught:
        read_csv(path)
    assert reason in str(caught.value)


def test_a_table_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"nothing\.csv does not exist"):
        read_csv(tmp_path / "nothing.csv")
