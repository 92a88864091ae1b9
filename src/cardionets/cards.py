"""Cards: what each model is, and who the people of each centre are, from the files that travel with the results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from cardionets import diseases, phenotypes, weights
from cardionets.config import Study
from cardionets.evaluate.people import COLUMNS
from cardionets.tables import endpoint_label

WORDS = {"female": "Women", "age": "Age (years)", "height_cm": "Height (cm)", "weight_kg": "Weight (kg)"}
WORDS |= {"rate_bpm": "Heart rate (bpm)", "qrs_ms": "QRS duration (ms)"}


def model_card(folder: Path) -> pd.DataFrame:
    """``weights/<model>/card.json`` as rows: field, value."""
    card = weights.read_card(folder)
    contract = card.contract
    shown = {
        "Model": f"{card.name}, version {card.version}",
        "Intended use": card.intended_use,
        "Limits": card.limits,
        "Input": f"12 leads ({', '.join(contract.leads)}) in {contract.unit}, {contract.grid.rate} Hz,"
        f" {contract.grid.seconds} s, {contract.ecg.band_hz[0]:g}-{contract.ecg.band_hz[1]:g} Hz",
        "CMR": f"{contract.grid.frames} frames of {contract.grid.size} x {contract.grid.size} pixels of"
        f" {contract.grid.spacing_mm:g} mm",
        "Trained on": "; ".join(f"{k}: {v}" for k, v in card.data.items()),
        "Validation": "; ".join(f"{k} {v:.3g}" for k, v in list(card.metrics.items())[:12]),
        "SHA-256 of the weights": card.sha256,
    }
    return pd.DataFrame({"field": list(shown), "value": list(shown.values())})


def model_cards(study: Study) -> dict[str, pd.DataFrame]:
    """Every model that is there: name -> card."""
    folders = sorted(path.parent for path in study.path("weights").glob("[!.]*/card.json"))
    return {folder.name: model_card(folder) for folder in folders}


def data_card(study: Study, cohort: str) -> pd.DataFrame:
    """Who a centre's people are, as rows: field, value, from ``cohorts.yaml`` and ``results/<cohort>/``.

    Reads aggregates only, so that a centre whose records never travelled has a card as well.
    """
    folder = study.path("results", cohort)
    shown: dict[str, str] = {"Centre": cohort, "Kind of data": "received from a site"}
    if cohort in study.cohorts:
        settings = study.cohorts[cohort]
        kind = "SIMULATED" if settings.simulated else "recorded"
        shown = {"Centre": settings.label, "Role": settings.role, "Kind of data": kind, "File layout": settings.layout}
    flow = folder / "flow.csv"
    if flow.is_file():
        shown |= _flow(pd.read_csv(flow, keep_default_na=False))
    people = folder / "case_mix.csv"
    if people.is_file():
        shown |= _people(pd.read_csv(people)[list(COLUMNS)])
    return pd.DataFrame({"field": list(shown), "value": list(shown.values())})


def _flow(flow: pd.DataFrame) -> dict[str, str]:
    found = {}
    for step, words in (("source", "At the centre"), ("kept", "Kept"), ("excluded", "Excluded"), ("cmr", "With cine")):
        part = flow[(flow["step"] == step)]
        if len(part):
            lines = [f"{r['reason']} " * bool(r["reason"]) + f"{int(r['records']):,} ECGs" for _, r in part.iterrows()]
            found[words] = "; ".join(lines)
    return found


def _people(people: pd.DataFrame) -> dict[str, str]:
    found = {}
    for _, row in people.iterrows():
        name = str(row["characteristic"])
        label = characteristic(name)
        if not np.isfinite(row["mean"]):
            found[label] = "not measured" if row["n"] == 0 else "withheld: few people"
        elif row["kind"] == "share":
            found[label] = f"{row['mean']:.1%} of {int(row['n']):,}"
        else:
            found[label] = f"{row['mean']:.1f} (SD {row['sd']:.1f}), {int(row['n']):,} people"
    return found


def characteristic(name: str) -> str:
    """The words for a row of ``case_mix.csv``."""
    if name in WORDS:
        return WORDS[name]
    known = name in phenotypes.BY_NAME or name in diseases.BY_NAME or name in diseases.SUBTYPES
    return endpoint_label(name) if known else name
