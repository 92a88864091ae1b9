"""The patient page: one recording and what the models say of it, as one HTML file that needs no network."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cardionets import diseases, figures, page
from cardionets.config import Study
from cardionets.figures.base import GREY, METADATA, OKABE_ITO, Provenance, png_bytes, protocol_hash, stamp, styled
from cardionets.norms import ADULT, LEVEL, SMALLEST
from cardionets.patient import Answer, Estimate, Person, Recording, Risk
from cardionets.patient_drivers import Drivers, section

TITLE: Final = "One ECG and what the study's models say of the heart"
USE: Final = "Research use only: not a medical device, not for decisions about a patient."
GATES: Final[dict[str, tuple[str, ...]]] = {
    "Every sample is a number": ("nan",),
    "Long enough": ("too_short",),
    "Spectrum is that of an ECG": ("spectrum_implausible",),
    "Not clipped": ("clipped",),
    "No lead is flat": ("flat_lead",),
    "Heart rate is plausible": ("rate_implausible",),
    "Amplitudes are plausible": ("amplitude_",),
    "Limb leads agree with each other": ("identity_", "leads_swapped"),
    "No exchange of limb electrodes": ("limb_reversal",),
}
"""What is checked, and how the codes begin that refute it."""
DECLARE: Final = {"leads_unknown": "--leads", "unit_unknown": "--unit", "rate_unknown": "--rate"}
AFTER: Final = {"nan": 1, "too_short": 2, "spectrum_implausible": 3, "rate_implausible": 6}
"""Gates that are looked at when this code ends the inspection."""
Cines = Mapping[str, NDArray[np.uint8]]
MINUS: Final = str.maketrans("-", "−")


def render(
    study: Study,
    recording: Recording,
    found: Answer | None,
    drawn: Cines | None,
    why: Drivers | None = None,
    top: str = "",
) -> str:
    """The page. ``found`` is None, and nothing is predicted, for a recording that was refused.

    ``drawn`` is None while cines are still being made, and empty where there is no generator.

    ``top`` is what :func:`measured` said of the recording, where that is at hand.
    """
    sections = [top or measured(study, recording)]
    if found is not None:
        sections += [*_phenotypes(study, recording, found), _diseases(study, found)]
        source = provenance(study, recording, found.simulated)
        sections += [_cines(recording, found, drawn), section(why, found.estimates, source) if why else ""]
        sections += [_reading(found)]
    body = _banner(recording, found) + "\n".join(sections)
    lead = "From a 12-lead ECG to cardiac-MRI phenotypes and disease screening."
    return page.render(TITLE, lead, body, [], provenance(study, recording).line(), False)


def measured(study: Study, recording: Recording) -> str:
    """The sections that need no model: the ECG and its gates."""
    return f"{_ecg(study, recording)}\n{_gates(study, recording)}"


def _banner(recording: Recording, found: Answer | None) -> str:
    style = (files("cardionets") / "assets" / "patient.css").read_text(encoding="utf-8")
    lines = [f"<style>\n{style}</style>", f'<p class="use">{USE}</p>']
    if recording.simulated:
        lines.append('<p class="simulated">SIMULATED DATA: this is not a real person</p>')
    elif found is not None and found.simulated:
        text = "SIMULATED: the models learnt from simulated hearts; no number below describes a real one"
        lines.append(f'<p class="simulated">{text}</p>')
    if recording.reasons:
        lines.append('<p class="refused">This ECG was refused, so nothing is predicted. The reason is below.</p>')
    return "\n".join(lines) + "\n"


def provenance(study: Study, recording: Recording, simulated: bool = False) -> Provenance:
    """The line that says what made the page, and nothing of whom."""
    preset, code = study.protocol.preset, protocol_hash(study)
    return Provenance("One recording", None, preset, code, simulated or recording.simulated)


def _svg(figure: Figure, provenance: Provenance) -> bytes:
    """A figure as SVG of its true size, so that 25 mm of paper are 25 mm of page."""
    stamp(figure, provenance)
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "cardionets", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata=METADATA[".svg"])
    return buffer.getvalue()


def _ecg(study: Study, recording: Recording) -> str:
    plot = ""
    if recording.shown is not None:
        low, high = study.protocol.ecg.band_hz
        band = f"Filtered to {low:g}–{high:g} Hz, as the models see it." if recording.signal is not None else "As read."
        drawn = figures.ecg(recording.shown, recording.shown_rate, "")
        words = f"12-lead ECG at 25 mm/s and 10 mm/mV. {band}"
        plot = page.picture(_svg(drawn, provenance(study, recording)), ".svg", words, ' class="paper"')
    return page.section("The ECG", plot, page.table(("", ""), known(recording).items()))


def known(recording: Recording) -> dict[str, str]:
    """What was read and measured, and who the person is, in words."""
    return {**recording.what, **measured_values(recording), **_who(recording.person)}


def measured_values(recording: Recording) -> dict[str, str]:
    """Heart rate, QRS duration and RMSSD in words, where they could be measured."""
    labels = {
        "rate_bpm": ("Heart rate", "/min"),
        "qrs_ms": ("QRS duration", "ms"),
        "rr_rmssd_ms": ("RMSSD of RR intervals", "ms"),
    }
    found = {k: v for k, v in recording.measured.items() if k in labels and np.isfinite(v)}
    return {labels[name][0]: f"{found[name]:.0f} {labels[name][1]}" for name in labels if name in found}


def _who(person: Person) -> dict[str, str]:
    parts = [f"{person.age:.0f} years" if person.age is not None else ""]
    parts += [{"F": "female", "M": "male"}.get(person.sex or "", "")]
    parts += [f"{person.height_cm:.0f} cm" if person.height_cm is not None else ""]
    parts += [f"{person.weight_kg:.0f} kg" if person.weight_kg is not None else ""]
    known = ", ".join(part for part in parts if part)
    return {"Person": known or "age, sex, height and weight unknown"}


def _gates(study: Study, recording: Recording) -> str:
    from cardionets.glossary import FLAGS

    rows = gate_rows(study, recording)
    bad = [i for i, row in enumerate(rows) if row[1] == "failed"]
    seen = [FLAGS.get(f"q_{name}", name.replace("_", " ")) for name in recording.flags]
    noted = f"Noted, without consequence: {', '.join(seen)}." if seen else ""
    remedies = [f"Declare it with {DECLARE[r]}." for r in recording.reasons if r in DECLARE]
    table = page.table(("Gate", "Result", "Reason"), rows, bad=bad)
    return page.section("Quality gates", table, page.words(" ".join([*remedies, noted])))


def gate_rows(study: Study, recording: Recording) -> list[tuple[str, str, str]]:
    """Gate, result and reason, beginning with whether the file could be read at all."""
    from cardionets.glossary import READING

    if not recording.unread:
        return [("The file can be read", "passed", ""), *checked(study, recording.reasons)]
    why = READING.get(recording.reasons[0], "the file could not be understood")
    return [("The file can be read", "failed", f"{recording.reasons[0]}: {why.replace('`', '')}")]


def checked(study: Study, reasons: Sequence[str]) -> list[tuple[str, str, str]]:
    """One line per gate; what an earlier fault kept from being looked at is said to be so."""
    from cardionets.glossary import signal_reasons

    meanings = signal_reasons(study)
    last = min((AFTER[r] for r in reasons if r in AFTER and (r != "too_short" or reasons == [r])), default=len(GATES))
    rows = []
    for i, (gate, starts) in enumerate(GATES.items()):
        found = [reason for reason in reasons if reason.startswith(starts)]
        result = "failed" if found else "passed" if i < last else "not checked"
        rows.append(
            (gate, result, "; ".join(f"{r}: {meanings.get(pattern(r), 'see the input contract')}" for r in found))
        )
    return rows


def pattern(reason: str) -> str:
    """The entry of the input contract that explains a reason code."""
    general = re.sub(r"_x\d+$", "_xN", reason)
    return "leads_swapped_A_B" if general.startswith("leads_swapped") else general


def _number(value: float, unit: str = "") -> str:
    if not np.isfinite(value):
        return "–"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 or unit == "%" else 2
    return f"{value:.{digits}f}".translate(MINUS)


def _span(low: float, high: float, unit: str) -> str:
    return f"{_number(low, unit)} to {_number(high, unit)}" if np.isfinite(low) and np.isfinite(high) else "–"


def _phenotypes(study: Study, recording: Recording, found: Answer) -> list[str]:
    head = study.protocol.endpoints.headline_phenotypes
    main = [e for name in head for e in found.estimates if e.phenotype.name == name]
    young = recording.person.age is not None and recording.person.age < ADULT
    child = '<p class="refused">The models learnt from adults: for a child the numbers below mean nothing.</p>'
    simulated = recording.simulated or found.simulated
    shown = child if young else ""
    if any(e.reference for e in main):
        drawn = png_bytes(ruler(main), provenance(study, recording, simulated))
        words = "Estimates with their intervals; the band is the reference range of healthy people."
        shown = page.picture(drawn, ".png", words)
    return [
        page.section("Phenotypes", page.words(sees(found)), shown, page.table(*estimate_rows(main), 3)),
        page.section(
            f"All {len(found.estimates)} phenotypes",
            f"<details><summary>Show</summary>{page.table(*estimate_rows(found.estimates), 3)}</details>",
        ),
    ]


def sees(found: Answer) -> str:
    """What the estimates were made from, and how many people stand behind their intervals."""
    seen = "the ECG with age, sex, height and weight" if found.arm.endswith("covariates") else "the ECG alone"
    lead = f"Estimated from {seen} (arm {found.arm}), with {LEVEL:.0%} intervals"
    return lead + (f" from {found.interval_people:,} validation people." if found.interval_people else " where known.")


def estimate_rows(rows: Sequence[Estimate]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and lines of the table of phenotypes."""
    head = ("Phenotype", "Place", "Reference group", "Estimate", f"{LEVEL:.0%} interval", "Reference range")
    lines: list[tuple[str, ...]] = []
    for e in rows:
        unit, r = e.phenotype.unit, e.reference
        group = f"{r.group}, n = {r.n:,}" if r else "none"
        values = (_number(e.value, unit), _span(e.lower, e.upper, unit), _span(r.lower, r.upper, unit) if r else "–")
        lines.append((e.phenotype.title, e.position, group, *values))
    return head, lines


@styled
def ruler(estimates: Sequence[Estimate]) -> Figure:
    """Each phenotype on its own scale, so that all reference ranges are one band: 0 is its lower limit, 1 its upper."""
    known = [(e, e.reference) for e in estimates if e.reference is not None]
    figure = Figure(figsize=(6.4, 0.5 + 0.34 * len(known)), layout="constrained")
    ax = figure.add_subplot()
    ax.axvspan(0, 1, color=OKABE_ITO[2], alpha=0.16, lw=0)
    for y, (e, r) in enumerate(known):
        place, low, high = ((v - r.lower) / (r.upper - r.lower) for v in (e.value, e.lower, e.upper))
        ax.plot([low, high], [y, y], color=OKABE_ITO[0], lw=1.4)
        ax.plot([place], [y], "o", color=OKABE_ITO[0], ms=5)
    ax.set_yticks(range(len(known)), [e.phenotype.title for e, _ in known])
    ax.set_xticks([0, 1], ["2.5 %", "97.5 %"])
    ax.set(ylim=(len(known) - 0.5, -0.5), xlabel="Reference range")
    ax.spines["left"].set_visible(False)
    ax.tick_params(left=False, colors=GREY, labelcolor="black")
    return figure


def _diseases(study: Study, found: Answer) -> str:
    specific = f"{study.protocol.statistics.specificity:.0%}"
    here = sum(np.isfinite(r.released) for r in found.risks)
    lead = f"Probabilities of arm {_arms(found.disease_arms)}"
    lead += f", {here} of {len(found.risks)} of them in this centre's own calibration; the others" if here else ""
    lead += " for people among whom each disease is as common as at development. "
    lead += f"The threshold reaches a specificity of {specific} on validation people"
    lead += "; it moves with the calibration, so that the same people are above it." if here else "."
    silent = [d for d in study.protocol.endpoints.diseases if d not in {r.disease for r in found.risks}]
    missing = ", ".join(diseases.BY_NAME[name].label for name in silent)
    left = f"Not predicted, for want of cases at development: {missing}." if missing else ""
    table = page.table(*risk_rows(found.risks), 5)
    return page.section("Diseases", page.words(lead), table, page.words(left))


def _arms(of: Mapping[str, str]) -> str:
    """The arm of most diseases, then every other arm with its diseases."""
    most = Counter(of.values()).most_common(1)[0][0] if of else ""
    others = sorted(set(of.values()) - {most})
    labels = {arm: ", ".join(diseases.BY_NAME[d].label for d in of if of[d] == arm) for arm in others}
    return most + "".join(f" ({labels[arm]}: {arm})" for arm in others)


def risk_rows(risks: Sequence[Risk]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and lines of the table of diseases."""
    head = ("Disease", "Against the threshold", "Among", "Probability", "Threshold", "As released", "How common")
    return head, [_risk(r) for r in risks]


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %" if np.isfinite(value) else "–"


def _risk(r: Risk) -> tuple[str, ...]:
    side = "" if not np.isfinite(r.threshold) else "at or above" if r.value >= r.threshold else "below"
    among = f"{r.people:,} {'here' if np.isfinite(r.released) else 'at development'}"
    numbers = map(_percent, (r.value, r.threshold, r.released, r.prevalence))
    return (diseases.BY_NAME[r.disease].label, side or "no threshold", among, *numbers)


def _cines(recording: Recording, found: Answer, drawn: Cines | None) -> str:
    if not drawn:
        soon = "The cines are still being drawn. This page is then written again: reload it in a moment."
        said = soon if drawn is None else "No cine is drawn here: that takes a trained generator."
        return page.section("Drawn cines", page.words(said))
    names = {"sax": "short axis", "4ch": "four-chamber"}
    rate = recording.measured.get("rate_bpm", 60.0)
    gif = figures.animate(
        {names.get(view, view): cine for view, cine in drawn.items()},
        60 / rate if np.isfinite(rate) and rate > 0 else 1.0,
        simulated=recording.simulated or found.simulated,
    )
    words = "Short axis and four chambers, drawn by the generator from the ECG alone: no camera saw this heart."
    return page.section("Drawn cines", page.picture(gif, ".gif", words))


def _reading(found: Answer) -> str:
    lines = [
        f"An interval holds the value that cardiac MRI would measure in {LEVEL:.0%} of people like those of the "
        "development cohort (split conformal prediction on its validation people); it says nothing of other people, "
        "of children, or of other devices before they are validated.",
        "A reference range is the 2.5 to 97.5 percentile of the MRI measurements of healthy training people of the "
        f"same sex and age; where that group has fewer than {SMALLEST}, of a wider group, which the table names.",
        "An estimate drawn to the middle is usual where the ECG says little: then the interval is wide.",
        "A probability is that of a diagnosis as the development centres coded it, at their mix of people; where it "
        "says so, shifted and stretched to fit the people of this centre, whose number stands beside it.",
        *found.notes,
    ]
    return page.section("How to read this page", *map(page.words, lines))
