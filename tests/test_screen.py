"""Private things planted in every corner of every format are found, and the study's own words are not."""

from __future__ import annotations

import base64
import io
import json
import zlib

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from cardionets.readable import PNG_CHUNKS, png_chunks
from cardionets.screen import Private, search, search_files

PRIVATE = Private(frozenset({"mrn8842", "12345678"}), ("/srv/hospital",), frozenset({"ward7pc"}))
PLANTS = {
    "date": "seen on 2019-03-04",
    "German date": "4.3.2019",
    "American date": "03/14/2019",
    "packed date": "scan 20190304 done",
    "spelt date": "Mar 4, 2019",
    "path": "/home/miller/ecg.xml",
    "Windows path": r"C:\Users\miller",
    "share": r"\\server\ecg",
    "site's own path": "under /srv/hospital/x",
    "e-mail": "a.miller@clinic.example",
    "host": "made on ward7pc",
    "address": "10.0.3.17",
    "identifier": "person MRN8842",
    "long number": "person 12345678",
    "pseudonym": "30c09402e9e48175",
    "DICOM": "1.2.840.10008.5.1.4.1",
}


def png(**text: str) -> bytes:
    info, buffer = PngImagePlugin.PngInfo(), io.BytesIO()
    for key, value in text.items():
        info.add_text(key, value, zip=key.startswith("z"))
    Image.new("RGB", (8, 8)).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def webp(seed: int) -> bytes:
    """An animation of noise: its bytes hold whatever chance makes them spell."""
    dice, buffer = np.random.default_rng(seed), io.BytesIO()
    first, *more = (Image.fromarray(dice.integers(0, 256, (64, 64, 3), np.uint8)) for _ in range(3))
    first.save(buffer, "WEBP", save_all=True, append_images=more, lossless=True)
    return buffer.getvalue()


def figure(kind: str, title: str) -> bytes:
    buffer = io.BytesIO()
    canvas = plt.figure()
    dates: dict[str, dict[str, str | None]] = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    canvas.savefig(buffer, format=kind, metadata={"Title": title} | dates[kind])
    plt.close(canvas)
    return buffer.getvalue()


def notebook(text: str, picture: bytes) -> bytes:
    stream = nbformat.v4.new_output("stream", text="fine\n" + text)
    shown = nbformat.v4.new_output("display_data", {"image/png": base64.b64encode(picture).decode()})
    page = nbformat.v4.new_output("display_data", {"text/html": f"<p>{text}</p>"})
    cells = [nbformat.v4.new_code_cell("x = 1", outputs=[stream, shown, page])]
    return nbformat.writes(nbformat.v4.new_notebook(cells=cells)).encode()


def planted(text: str) -> dict[str, bytes]:
    """The text in every format and corner."""
    embedded = base64.b64encode(png(Comment=text)).decode()
    return {
        "cell.csv": f'endpoint,note\ncad,"{text}"\n'.encode(),
        "column.csv": f'endpoint,"{text}"\ncad,1\n'.encode(),
        "value.json": json.dumps({"a": [{"b": text}]}).encode(),
        "key.json": json.dumps({text: 1}).encode(),
        "output.ipynb": notebook(text, png()),
        "picture.ipynb": notebook("", png(Comment=text)),
        "page.html": f"<html><body><!-- {text} --></body></html>".encode(),
        "embedded.html": f'<img src="data:image/png;base64,{embedded}">'.encode(),
        "text.png": png(Comment=text),
        "compressed.png": png(zComment=text),
        "tail.png": png() + text.encode(),
        "tail.webp": webp(0) + text.encode(),
        "run.log": f"12:00 {text}\n".encode(),
        "wide.gif": b"GIF89a" + text.encode("utf-16-le"),
    }


@pytest.mark.parametrize("plant", PLANTS)
def test_planted_in_every_corner(plant: str) -> None:
    for name, data in planted(PLANTS[plant]).items():
        assert search(name, data, PRIVATE), f"{plant} in {name} was not found"


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_metadata_of_figures(kind: str) -> None:
    assert any(f.kind == "date" for f in search(f"x.{kind}", figure(kind, "seen on 2019-03-04")))
    assert any(f.kind == "identifier or date" for f in search(f"x.{kind}", figure(kind, "of MRN8842"), PRIVATE))


@pytest.mark.parametrize("kind", ["jpeg", "png", "gif", "webp"])
def test_what_a_camera_or_an_editor_writes_into_a_picture(kind: str) -> None:
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x010E], exif[0x0132] = "of MRN8842", "2019:03:04 10:11:12"  # ImageDescription, DateTime
    more: dict[str, object] = {"comment": b"of MRN8842"} if kind == "gif" else {"exif": exif}
    Image.new("RGB", (8, 8)).save(buffer, kind, **more)
    kinds = {finding.kind for finding in search(f"x.{kind}", buffer.getvalue(), PRIVATE)}
    assert "identifier or date" in kinds
    assert kind == "gif" or "date" in kinds


def test_octal_escapes_of_a_pdf_are_read_as_what_they_stand_for() -> None:
    page = b"%%PDF-1.4\nstream\nBT /F1 5.2 Tf (%s) Tj ET\nendstream\n"
    assert search("x.pdf", page % rb"\0033047") == []
    assert search("x.pdf", page % rb"seen on 2019-\060\063-04")


def test_pixels_say_nothing_whatever_they_spell() -> None:
    for seed in range(20):
        picture = webp(seed)
        spelt = picture[:2000] + b"D:\\ward" + picture[2007:]
        assert search("x.webp", spelt) == []
        page = f'<img src="data:image/webp;base64,{base64.b64encode(spelt).decode()}">'
        assert search("x.html", page.encode()) == []


def test_offsets_palettes_and_fonts_of_a_pdf_are_no_numbers_of_people() -> None:
    buffer, canvas = io.BytesIO(), plt.figure()
    canvas.add_subplot().imshow(np.arange(256).reshape(16, 16), cmap="gray")
    canvas.text(0, 0, "abcdefghijklmnopqrstuvwxyz 0123456789 ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    with plt.rc_context({"pdf.fonttype": 42}):
        canvas.savefig(buffer, format="pdf", metadata={"CreationDate": None})
    plt.close(canvas)
    assert search("x.pdf", buffer.getvalue()) == []


def test_streams_of_a_pdf_are_read_under_either_coat() -> None:
    for word, kind in (("seen on 2019-03-04", "date"), ("of MRN8842", "identifier or date"), ("7 people", "")):
        packed = zlib.compress(f"BT /F1 9 Tf ({word}) Tj ET".encode())
        for coat in (packed, base64.a85encode(packed) + b"~>", f"({word}) Tj".encode()):
            found = search("x.pdf", b"%PDF-1.4\n1 0 obj\nstream\n" + coat + b"\nendstream\nendobj\n", PRIVATE)
            assert {f.kind for f in found} == ({kind} if kind else set())


def test_what_the_study_says_itself_is_clean() -> None:
    table = b"cohort,endpoint,estimate,n\nqph,cad,0.7123,433\nqph,lv_ef,1.234e-05,1200\n"
    assert search("metrics.csv", table, PRIVATE) == []
    assert search("a.json", json.dumps({"schema": "1.0", "sha": "ab" * 32, "n": 433}).encode(), PRIVATE) == []
    assert search("x.png", png(), PRIVATE) == []
    assert {kind for kind, _ in png_chunks(png())} <= PNG_CHUNKS


def test_a_finding_names_kind_and_place_and_repeats_nothing(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "mrn8842.log").write_text("fine\nperson 12345678\n")
    found = search_files([tmp_path], PRIVATE)
    assert {f.place for f in found} == {"line 2", "name"}
    assert not any("12345678" in str(f).replace(f.file, "") for f in found)


def test_malformed_files_are_searched_all_the_same() -> None:
    for name in ("x.json", "x.ipynb"):
        assert search(name, b'{"a": "2019-03-04"')
    assert search("x.png", b"\x89PNG\r\n\x1a\n" + b"\0\0\0\x0atEXt" + b"2019-03-04")
    assert search("x.pdf", b"%PDF-1.4 2019-03-04 stream\nbroken endstream")
