"""Files to rows: every row of every format, and what is said of a row or a file that cannot be read."""

from __future__ import annotations

import gzip
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from app.cli.errors import CommandError
from app.cli.importing.files import FileFormat, NumberedRow, Unreadable, format_of, open_rows
from app.cli.importing.mapping import FileOptions


def _read(path: Path, options: FileOptions | None = None, required: tuple[str, ...] = ()) -> list[NumberedRow]:
    with open_rows(path, format_of(path), options or FileOptions(), required) as rows:
        return list(rows)


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("name", ["rows.csv", "rows.csv.gz"])
def test_csv_rows_are_numbered_from_one_after_the_header(tmp_path: Path, name: str) -> None:
    path = _write(tmp_path / name, '\ufeffid, name\n1,"a ""b"",\nc"\n\n2,\n'.encode())
    assert [(row.number, row.cells) for row in _read(path)] == [
        (1, {"id": "1", "name": 'a "b",\nc'}),
        (2, {"id": "2", "name": ""}),
    ]


def test_a_csv_row_of_another_width_is_one_unreadable_row(tmp_path: Path) -> None:
    path = _write(tmp_path / "rows.csv", b"a,b\n1\n1,2,3\n4,5\n")
    first, second, third = _read(path)
    assert first.cells == Unreadable(detail="has 1 cells where the header has 2")
    assert second.cells == Unreadable(detail="has 3 cells where the header has 2")
    assert (third.number, third.cells) == (3, {"a": "4", "b": "5"})


def test_a_broken_quote_is_one_unreadable_row(tmp_path: Path) -> None:
    broken, sound = _read(_write(tmp_path / "rows.csv", b'a,b\n"x"y,1\n2,3\n'))
    assert isinstance(broken.cells, Unreadable)
    assert sound.cells == {"a": "2", "b": "3"}


def test_other_delimiters_and_encodings_are_taken(tmp_path: Path) -> None:
    path = _write(tmp_path / "rows.csv", "城市;b\n北京;2\n".encode("gb18030"))
    assert _read(path, FileOptions(delimiter=";", encoding="gb18030"))[0].cells == {"城市": "北京", "b": "2"}


def test_bytes_that_are_no_text_spoil_their_cell_and_not_the_file(tmp_path: Path) -> None:
    rows = _read(_write(tmp_path / "rows.csv", b"a,b\n\xff,1\n2,3\n"))
    assert [row.cells["b"] for row in rows if not isinstance(row.cells, Unreadable)] == ["1", "3"]


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("rows.csv", b"", "is empty"),
        ("rows.csv", b"a,a\n1,2\n", "the column a twice"),
        ("rows.csv", b"a,b\n1,2\n", "has no column c, which the mapping names"),
        ("rows.parquet", b"PAR1 not", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_before_the_first_row(
    tmp_path: Path, name: str, content: bytes, fault: str
) -> None:
    path = _write(tmp_path / name, content)
    with pytest.raises(CommandError, match=fault):
        _read(path, required=("a", "c"))


def test_a_gzip_that_breaks_off_says_after_which_row(tmp_path: Path) -> None:
    whole = gzip.compress(b"a,b\n" + b"".join(f"{i},{i * i}\n".encode() for i in range(20_000)))
    path = tmp_path / "rows.csv.gz"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CommandError, match=r"is broken after row [1-9]\d+"):
        _read(path)


def test_a_name_that_says_no_format_is_refused() -> None:
    with pytest.raises(CommandError, match="say --format"):
        format_of(Path("applications.txt"))
    assert format_of(Path("a.JSONL")) is FileFormat.NDJSON


def test_ndjson_keeps_numbers_exact_and_flattens_objects(tmp_path: Path) -> None:
    path = _write(
        tmp_path / "rows.ndjson",
        b'{"id": 1, "amount": 0.1000000000000000055511151231257827, "ok": true, "who": {"age": null}}\n\n{"id": "2"}\n',
    )
    first, second = _read(path)
    assert first.cells == {"id": "1", "amount": "0.1000000000000000055511151231257827", "ok": "true", "who.age": None}
    assert (second.number, second.cells) == (2, {"id": "2"})


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        (b"{", "is not JSON"),
        (b"[1]", "is not a JSON object"),
        (b'{"a": NaN}', "is not JSON"),
        (b'{"a": [1]}', "holds an array, which is no cell"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"a": ' + b"9" * 70 + b"}", "is not JSON"),
        (b'{"a": "' + b"x" * 1_100_000 + b'"}', "is longer than 1048576 bytes"),
    ],
)
def test_a_line_that_is_no_row_is_one_unreadable_row(tmp_path: Path, line: bytes, detail: str) -> None:
    bad, good = _read(_write(tmp_path / "rows.ndjson", line + b'\n{"id": 2}\n'))
    assert bad.cells == Unreadable(detail=detail)
    assert good.cells == {"id": "2"}


def test_parquet_values_become_their_exact_text(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    table = pa.table(
        {
            "id": pa.array([1, 2]),
            "amount": pa.array([Decimal("437.50"), None], pa.decimal128(12, 2)),
            "rate": pa.array([0.1, float("nan")]),
            "ok": pa.array([True, False]),
            "at": pa.array([datetime(2026, 11, 24, 9, tzinfo=UTC), None], pa.timestamp("us", tz="UTC")),
            "day": pa.array([date(2026, 11, 24), None]),
            "who": pa.array([{"age": 40}, None]),
        }
    )
    path = tmp_path / "rows.parquet"
    pq.write_table(table, path, row_group_size=1)
    first, second = _read(path, required=("id", "amount"))
    assert first.cells == {
        "id": "1",
        "amount": "437.50",
        "rate": "0.1",
        "ok": "true",
        "at": "2026-11-24T09:00:00+00:00",
        "day": "2026-11-24",
        "who.age": "40",
    }
    assert second.cells == dict.fromkeys(["amount", "rate", "at", "day", "who"]) | {"id": "2", "ok": "false"}
    assert [first.done, second.done] == [0.5, 1.0]
