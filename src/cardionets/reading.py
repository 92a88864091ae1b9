"""Reader study, the kit: which reader sees which case in which session and how, and a page to read each session on.

Every reader reads every case once in each arm (ECG; ECG and generated cine; ECG and real cine), one arm per session:
the cases are cut into as many blocks, stratified by true status, as there are arms, and arms rotate over blocks,
sessions and readers (Latin squares run in both directions). So nobody sees a case twice in a session, and a session's
arms are mixed. Pages carry new case numbers, no record, no truth and no name of an arm; ``key.csv`` carries them and
stays with the coordinator.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from einops import rearrange
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, field_validator

from cardionets import diseases, figures, page
from cardionets.config import Settings, Study, StudyError
from cardionets.draw import Drawn, folder_of
from cardionets.files import atomic_path
from cardionets.progress import track
from cardionets.store import Store

ECG, DRAWN, REAL = "ECG", "ECG + generated cine", "ECG + real cine"
ARMS: Final = (ECG, DRAWN, REAL)
RATINGS: Final = ("surely absent", "probably absent", "undecided", "probably present", "surely present")
COLUMNS: Final = (
    "kit",
    "reader",
    "session",
    "number",
    "rating",
    "positive",
    "seconds",
    "answered",
    "source",
    "comment",
)
"""Columns of an exported CSV; rating 1-5, positive yes or no, seconds on the screen, answered in UTC."""
KEY: Final = ("kit", "reader", "level", "session", "position", "number", "modality", "case", "record", "truth")
VIEWS: Final = ("sax", "4ch")
VIEW_NAMES: Final = ("short axis", "four-chamber")
MIN_CASES: Final = 6
ECG_DPI: Final = 110
IDLE_SECONDS: Final = 180  # after so long without a key or a movement a page stops counting
INKS: Final = 24  # colours kept of an ECG on its paper

Cine = NDArray[np.uint8]


class Design(Settings):
    """What the coordinator decides: the finding, sizes, levels of the readers (in turn), washout and arms."""

    endpoint: str = "cardiomyopathy"
    cases: int = Field(default=24, ge=MIN_CASES, le=500)
    readers: int = Field(default=6, ge=1, le=60)
    levels: tuple[str, ...] = ("junior", "senior")
    share: float = Field(default=0.5, ge=0.1, le=0.9)
    washout_days: int = Field(default=28, ge=0)
    seed: int = Field(default=0, ge=0)
    arms: tuple[str, ...] = ARMS

    @field_validator("endpoint")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in diseases.NAMES:
            raise ValueError(f"choose one of {', '.join(diseases.NAMES)}")
        return name

    @field_validator("arms", "levels")
    @classmethod
    def _some(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names or len(set(names)) < len(names):
            raise ValueError("name at least one, each once")
        return names


def drawn_cines(study: Study, cohort: str) -> Drawn | None:
    """The cohort's generated cines, or None where none were drawn."""
    return Drawn.open(study, cohort) if folder_of(study, cohort).is_dir() else None


def possible_arms(store: Store, drawn: Drawn | None) -> tuple[tuple[str, ...], list[str]]:
    """The arms this cohort can be read in, and one sentence per arm that is left out."""
    missing = {}
    if drawn is None or drawn.index.empty:
        missing[DRAWN] = "no cines were generated for this cohort"
    if not ((store.records["sax_row"] >= 0) & (store.records["lax_row"] >= 0)).any():
        missing[REAL] = "the cohort has no CMR"
    sentences = [f"The arm “{arm}” is left out: {reason}." for arm, reason in missing.items()]
    return tuple(arm for arm in ARMS if arm not in missing), sentences


def eligible(records: pd.DataFrame, design: Design, drawn: Drawn | None = None) -> pd.DataFrame:
    """One record of every test person whose status is known and who can be shown in every arm."""
    keep = (records["split"] == "test") & records[design.endpoint].notna()
    if REAL in design.arms:
        keep &= (records["sax_row"] >= 0) & (records["lax_row"] >= 0)
    if DRAWN in design.arms:
        keep &= records["record"].isin([] if drawn is None else drawn.index["record"])
    return records[keep].drop_duplicates("person")


def draw_cases(people: pd.DataFrame, design: Design) -> pd.DataFrame:
    """Cases drawn at random within true status: case, record, truth, block (0 to arms - 1).

    Where a status has too few people the list shrinks and keeps the share. Raises StudyError below the least size.
    """
    truth = people[design.endpoint].astype(bool).to_numpy()
    m, n = int(truth.sum()), int((~truth).sum())
    size = min(design.cases, int(m / design.share), int(n / (1 - design.share)))
    if size < MIN_CASES:
        text = f"{m} people with and {n} without {design.endpoint} can be shown in every arm"
        raise StudyError(f"reader study: cases: {text}, too few for {MIN_CASES} cases; leave out an arm or share.")
    rng = np.random.default_rng([design.seed, 0])
    positives = round(size * design.share)
    parts = [rng.permutation(np.flatnonzero(truth))[:positives], rng.permutation(np.flatnonzero(~truth))]
    chosen = np.concatenate([parts[0], parts[1][: size - positives]])
    block = np.arange(size) % len(design.arms)
    order = rng.permutation(size)
    cases = pd.DataFrame({"record": people["record"].to_numpy()[chosen], "truth": truth[chosen], "block": block})
    return cases.iloc[order].reset_index(drop=True).assign(case=[f"case {i + 1:03d}" for i in range(size)])


def allocate(cases: pd.DataFrame, design: Design) -> pd.DataFrame:
    """The key: one row per reader, session and case with its arm, place and number on the page (columns `KEY`).

    In session s reader r reads block b under arm (b + r +- s) mod arms; the order is drawn anew for every session.
    """
    arms, rng = len(design.arms), np.random.default_rng([design.seed, 1])
    numbers = iter(1000 + rng.permutation(max(9000, 2 * arms * design.readers * len(cases))))
    parts = []
    for r in range(design.readers):
        direction = 1 if (r // arms) % 2 == 0 else -1
        who = {"reader": f"reader {r + 1}", "level": design.levels[r % len(design.levels)]}
        for s in range(arms):
            part = cases.iloc[rng.permutation(len(cases))]
            arm = [design.arms[(b + r + direction * s) % arms] for b in part["block"]]
            own = [int(next(numbers)) for _ in range(len(part))]
            placed = part.assign(session=s + 1, position=np.arange(1, len(part) + 1), number=own, modality=arm)
            parts.append(placed.assign(**who))
    key = pd.concat(parts, ignore_index=True)
    text = key.to_csv(index=False) + design.model_dump_json()
    return key.assign(kit=hashlib.sha256(text.encode()).hexdigest()[:12])[list(KEY)]


@dataclass(frozen=True)
class Pictures:
    """PNGs of every case: its ECG, and per arm with a cine one sheet of frames (views down, phases across)."""

    ecg: Mapping[str, bytes]
    sheets: Mapping[str, Mapping[str, bytes]]
    frames: int
    size: int


def draw_pictures(store: Store, drawn: Drawn | None, cases: pd.DataFrame, arms: Sequence[str]) -> Pictures:
    """Render the ECG of every case (life-size paper) and its cines."""
    records = store.records.set_index("record").loc[cases["record"]]
    ecg = {}
    for name, row in track(list(zip(records.index, records["row"])), "draw ECGs"):
        signal = np.asarray(store.ecg[int(row)], dtype=np.float32)  # (lead, sample) uV
        ecg[str(name)] = few_colours(figures.png_bytes(figures.ecg(signal, store.grid.rate), dpi=ECG_DPI))
    sheets: dict[str, dict[str, bytes]] = {}
    if REAL in arms:
        rows = zip(records.index, records["sax_row"], records["lax_row"])
        sheets[REAL] = {str(name): sheet([store.sax[int(a)], store.lax[int(b)]]) for name, a, b in rows}
    if DRAWN in arms and drawn is not None:
        place = drawn.index.set_index("record")["row"].loc[records.index]
        sheets[DRAWN] = {str(name): sheet([drawn.arrays[v][int(i)] for v in VIEWS]) for name, i in place.items()}
    return Pictures(ecg, sheets, store.grid.frames, store.grid.size)


def few_colours(png: bytes) -> bytes:
    """A PNG with a small palette: an ECG on its paper needs no more, and pages stay small."""
    with Image.open(io.BytesIO(png)) as image:
        small = image.convert("RGB").quantize(INKS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    small.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def sheet(cines: Sequence[Cine]) -> bytes:
    """Cines (frame, H, W) uint8 of all views as one grey PNG, (view H, frame W)."""
    pixels = rearrange(np.stack([np.asarray(c) for c in cines]), "v f h w -> (v h) (f w)")
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def build_page(part: pd.DataFrame, pictures: Pictures, design: Design, simulated: bool) -> str:
    """The page of one reader and session (rows of the key): it tells neither arm, nor record, nor truth."""
    rows = part.sort_values("position").reset_index(drop=True)
    first = rows.iloc[0]
    about: dict[str, Any] = {"kit": first["kit"], "reader": first["reader"], "session": int(first["session"])}
    about |= {"sessions": len(design.arms), "washout_days": design.washout_days, "beat_ms": 1000}
    about |= {"idle_seconds": IDLE_SECONDS}
    about |= {"finding": diseases.BY_NAME[design.endpoint].label.lower(), "ratings": RATINGS, "columns": COLUMNS}
    about |= {"simulated": simulated, "frames": pictures.frames, "size": pictures.size, "views": VIEW_NAMES}
    about |= {"file": f"answers_{stem(first)}.csv", "items": [_item(row, pictures) for _, row in rows.iterrows()]}
    template = (files("cardionets") / "assets" / "reading.html").read_text(encoding="utf-8")
    payload = json.dumps(about, ensure_ascii=False).replace("<", "\\u003c")
    title = f"Reading: {first['reader']}, session {first['session']}"
    return template.replace("{{title}}", title).replace("{{study}}", payload)


def _item(row: pd.Series, pictures: Pictures) -> dict[str, Any]:
    cine = pictures.sheets.get(row["modality"], {}).get(row["record"])
    seen = {"number": int(row["number"]), "ecg": page.data_uri(pictures.ecg[row["record"]], ".png")}
    return seen | {"cine": page.data_uri(cine, ".png") if cine else None}


def stem(row: pd.Series) -> str:
    """``reader_1_session_2``: the name of a page, and the end of the name of its answers."""
    return f"{str(row['reader']).replace(' ', '_')}_session_{row['session']}"


def write_kit(folder: Path, key: pd.DataFrame, pictures: Pictures, design: Design, simulated: bool) -> Path:
    """Write ``pages/``, ``key.csv`` and ``coordinator.md`` below ``folder``, all or nothing. Patient-level."""
    with atomic_path(folder) as aside:
        (aside / "pages").mkdir(parents=True)
        for _, part in track(list(key.groupby(["reader", "session"], sort=False)), "write reading pages"):
            text = build_page(part, pictures, design, simulated)
            (aside / "pages" / f"{stem(part.iloc[0])}.html").write_text(text, encoding="utf-8")
        key.to_csv(aside / "key.csv", index=False, lineterminator="\n")
        (aside / "coordinator.md").write_text(instructions(key, design, simulated), encoding="utf-8")
    return folder


def instructions(key: pd.DataFrame, design: Design, simulated: bool) -> str:
    """What the coordinator does with the kit."""
    lines = ["# Reader study: for the coordinator", ""]
    lines += ["SIMULATED DATA: no case is a real person.", ""] if simulated else []
    finding, sessions = diseases.BY_NAME[design.endpoint].label.lower(), len(design.arms)
    cases = key.drop_duplicates("case")
    lines += [
        f"Kit `{key['kit'].iloc[0]}`: {len(cases)} cases, {int(cases['truth'].sum())} of",
        f"them with {finding}; {design.readers} readers, {sessions} sessions; arms: {'; '.join(design.arms)}.",
        "",
        "1. Keep `key.csv`: it joins case numbers to records, arms and truth. Readers get pages only.",
        "2. Give each reader the page of session 1; it opens from the file, without a network.",
        f"3. Give the page of the next session at least {design.washout_days} days after the last.",
        "4. Tell readers neither the share of cases with the finding nor which cines are generated.",
        "5. Put every returned CSV and `key.csv` into one folder and run `reader_study` with `answers` set to it.",
        "",
        "Levels, in the order of the readers: " + ", ".join(key.drop_duplicates("reader")["level"]) + ".",
        "Mend the column `level` of `key.csv` where it is wrong, before the analysis and for all rows of a reader.",
    ]
    return "\n".join(lines) + "\n"
