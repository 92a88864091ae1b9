"""One door for every ECG file: its first bytes tell the format; the file and the cohort's declaration tell the rest."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

from cardionets.cohorts import arrays, dicom_ecg, edf, scp, wfdb_ecg, xml_ecg
from cardionets.cohorts.recording import MAX_BYTES, Raw, finish
from cardionets.config import CohortEcg, StudyError
from cardionets.ecg import EcgRecord, RecordError

READERS: dict[str, Callable[[Path], Raw]] = {
    "wfdb": wfdb_ecg.read_wfdb,
    "xml": xml_ecg.read_xml,
    "xml_median": partial(xml_ecg.read_xml, kind="median"),
    "dicom": dicom_ecg.read_dicom_ecg,
    "scp": scp.read_scp,
    "edf": edf.read_edf,
    "npy": arrays.read_npy,
    "hdf5": arrays.read_hdf5,
    "mat": arrays.read_mat,
    "csv": arrays.read_csv,
}
ABSENT = "no such file; check the path, and the other files of a recording that has several."
_MAGIC = {b"\x93NUMPY": "npy", b"\x89HDF\r\n\x1a\n": "hdf5", b"MATLAB 5": "mat", b"0       ": "edf"}
_XML_STARTS = (b"<", b"\xef\xbb\xbf<", b"\xff\xfe<", b"\xfe\xff\0<")


def detect(path: Path) -> str:
    """Format of a file, a key of ``READERS``: by content, and by suffix only for WFDB and CSV, which have no mark.

    Raises ``RecordError`` (``missing``, ``format_unknown``).
    """
    if path.suffix in (".hea", ".dat") or (path.suffix in (".mat", "") and path.with_suffix(".hea").is_file()):
        return "wfdb"
    file, _ = arrays.split_row(path)
    if not file.is_file():
        raise RecordError("missing", f"{path.name}: {ABSENT}")
    with file.open("rb") as handle:
        head = handle.read(132)
    for mark, name in _MAGIC.items():
        if head.startswith(mark):
            return name
    if head[128:132] == b"DICM":
        return "dicom"
    if head[16:22] == b"SCPECG":
        return "scp"
    if head.lstrip().startswith(_XML_STARTS):
        return "xml"
    if path.suffix.lower() in (".csv", ".tsv", ".txt"):
        return "csv"
    raise RecordError(
        "format_unknown", f"{path.name}: the format is not known; convert it to one of {', '.join(READERS)}."
    )


def _check_size(path: Path) -> None:
    file, row = arrays.split_row(path)
    if row is None and file.is_file() and file.stat().st_size > MAX_BYTES:
        text = f"{file.stat().st_size / 2**20:.0f} MiB is too large for one recording; check the file."
        raise RecordError("too_large", f"{path.name}: {text}")


def read_ecg(path: Path, declared: CohortEcg | None = None, format: str | None = None) -> EcgRecord:
    """Read one recording: canonical leads in uV, true rate, and person, date, age and sex where the file holds them.

    ``declared`` fills in what the file does not say; ``format`` is a key of ``READERS`` (default: told by content).
    Raises ``RecordError`` whose ``reason`` is a code for the flow diagram; no other error leaves a damaged file.
    """
    name = format or detect(path)
    if name not in READERS:
        raise StudyError(f"{path.name}: format {name!r} is not known; choose one of {', '.join(READERS)}.")
    _check_size(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            raw = READERS[name](path)
    except StudyError:
        raise
    except FileNotFoundError:
        raise RecordError("missing", f"{path.name}: {ABSENT}") from None
    except Exception as error:
        text = f"not a readable {name} recording ({type(error).__name__}: {str(error)[:120]}); copy the file anew."
        raise RecordError("unreadable", f"{path.name}: {text}") from error
    return finish(raw, declared or CohortEcg(), path)
