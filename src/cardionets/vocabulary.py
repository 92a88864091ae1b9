"""The only words and columns a bundle's tables may hold: no free text, so nothing private can hide in a cell."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import pandas as pd

from cardionets import diseases, phenotypes
from cardionets.aggregates import CONTINUOUS, FLOW_COLUMNS, KEYS, OTHER, PEOPLE_COLUMNS
from cardionets.config import Study
from cardionets.disclosure import NOTES
from cardionets.evaluate.binned import CLOUD_COLUMNS, RISK_COLUMNS
from cardionets.evaluate.rows import COLUMNS
from cardionets.flow import BANDS, STEPS
from cardionets.glossary import FLAGS, READING, signal_reasons

COLUMNS_OF: Final[dict[str, tuple[str, ...]]] = {
    "metrics": COLUMNS,
    "images": COLUMNS,
    "flow": FLOW_COLUMNS,
    "people": PEOPLE_COLUMNS,
    "risk_bins": (*KEYS, *RISK_COLUMNS),
    "clouds": (*KEYS, *CLOUD_COLUMNS),
}
"""Every table of a bundle and its columns, in order."""
NUMBERS: Final = frozenset(
    (*RISK_COLUMNS, *CLOUD_COLUMNS, "fraction", "estimate", "lower", "upper", "n", "events", "records", "persons")
) | {"mean", "sd"}


def _words(text: str) -> list[str]:
    return text.split()


ARMS: Final = tuple(
    _words("""
    covariates beat_ridge beat_ridge_teacher rr_rule scratch mae aligned aligned_teacher aligned_finetuned
    aligned_covariates aligned_rhythm aligned_mae cmr aligned_site generated posterior_sample generated_mean
    latent_flow latent_flow_sample shuffled ridge neighbour training_mean reconstruction real direct
""")
)
UPDATES: Final = ("intercept", "intercept_slope")
METRICS: Final = tuple(
    _words("""
    prevalence auc auprc auprc_balanced brier calibration_intercept calibration_slope oe ici threshold
    sensitivity specificity ppv npv ppv_balanced npv_balanced lr_positive lr_negative auc_difference r2
    r mae bias ccc mean_r2 mean_r mean_r2_difference r2_difference loa_lower loa_upper ssim psnr motion
    roughness frechet frechet_image feature_distance nearest_training median_rank top_1 top_5 top_10
    sensitivity_at_specificity specificity_at_sensitivity accuracy_balanced accuracy_difference macro_auc
    closing doubt_r error_over_doubt r_difference coverage beyond novelty_error
""")
)
_METRIC: Final = re.compile(rf"(?:{'|'.join(METRICS)})(?:_on_real)?(?:_p(?:_holm|_bh)?)?")
_ARM: Final = rf"(?:{'|'.join(ARMS)})(?:\+(?:{'|'.join(UPDATES)}))?"
_ARM_OR_PAIR: Final = re.compile(rf"{_ARM}(?: (?:minus|-) {_ARM})?")
_ENDPOINTS: Final = frozenset(
    (*diseases.NAMES, *diseases.SUBTYPES, *phenotypes.NAMES, "all_phenotypes", "headline_phenotypes")
) | {"cine_sax", "cine_4ch", "cine", "cardiomyopathy_subtypes"}
_VIEWS: Final = ("sax", "4ch")
_PLAIN_REASONS: Final = frozenset(
    ["", OTHER, "train", "val", "test", *_VIEWS, "sax and 4ch", "withdrawn", "site exclusion list", "unreadable"]
)


def reason_is_known(reason: str, study: Study) -> bool:
    """Whether a reason of the flow is one of the software's own codes; lead pairs and factors stand at their end."""
    view, colon, rest = reason.partition(": ")
    if colon and view in _VIEWS:
        return reason_is_known(rest, study)
    if re.fullmatch(r"unreadable: [A-Z][A-Za-z]{2,30}(Error|Exception)", reason):
        return True
    stem = re.sub(r"_x\d{1,7}$|_(aV[RLF]|V[1-6]|I{1,3})_(aV[RLF]|V[1-6]|I{1,3})$", "", reason)
    known = {re.sub(r"_A_B$|_xN$", "", r) for r in (*READING, *signal_reasons(study))}
    return reason in _PLAIN_REASONS or reason in FLAGS or stem in known


def faults(name: str, table: pd.DataFrame, study: Study, cohort: str) -> list[str]:
    """Columns and words of one table that are not the software's own; numbers where words stand and the reverse."""
    columns = COLUMNS_OF[name]
    if tuple(table.columns) != columns:
        return [f"{name}.csv: columns: they are not exactly {', '.join(columns)}; share again with this version."]
    found = []
    for column in columns:
        values = table[column]
        if column in NUMBERS:
            wrong = bool(pd.to_numeric(values, errors="coerce").isna().sum() > values.isna().sum())
        else:
            allowed = _rules(study, cohort)[column]
            wrong = not all(allowed(str(v)) for v in values.fillna("").unique())
        if wrong:
            found.append(
                f"{name}.csv: {column}: it holds something that is not one of the study's own words or numbers."
            )
    return found


def _rules(study: Study, cohort: str) -> dict[str, Callable[[str], bool]]:
    levels = {"all", "F", "M", "unknown", "yes", "no", "mean", *BANDS}
    variables = {"people", "sex", "age_band", *diseases.NAMES, *CONTINUOUS}
    return {
        "cohort": lambda v: v == cohort,
        "endpoint": lambda v: v in _ENDPOINTS,
        "arm": lambda v: v == "all arms" or bool(_ARM_OR_PAIR.fullmatch(v)),
        "split": lambda v: v == "test",
        "metric": lambda v: bool(_METRIC.fullmatch(v)),
        "note": lambda v: v in NOTES,
        "step": lambda v: v in STEPS,
        "reason": lambda v: reason_is_known(v, study),
        "variable": lambda v: v in variables,
        "level": lambda v: v in levels,
    }
