# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Validate at one centre
#
# **Question.** How good is each arm at this centre, on people it has never seen?
#
# **Inputs.** `predictions/<cohort>.parquet`, the records of `store/<cohort>/`, thresholds chosen at home.
#
# **Outputs.** `results/<cohort>/metrics.csv`, figures and tables. Aggregates only.

# %% tags=["parameters"]
cohort = "ukb"
arm = "aligned_teacher"

# %%
import pandas as pd

from cardionets import figures, operating
from cardionets.evaluate import added, metrics, recalibration, trust
from cardionets.workbook import Workbook

book = Workbook("validate", cohort)
records = book.store.records
predictions = pd.read_parquet(book.study.path("predictions", f"{cohort}.parquet"))

# %% [markdown]
# Everybody judged here is a test person: at a development centre the test split, at an external centre everybody.
# Thresholds were chosen on validation people of the development cohorts and are carried over unchanged.

# %%
found = metrics.evaluate(
    predictions,
    records,
    book.study,
    cohort=cohort,
    transferred=operating.load(book.study),
    reference="covariates",
)
updated = recalibration.evaluate(predictions, records, book.study, cohort)
widths = pd.read_csv(book.study.path("weights", "conformal.csv"))
novelty = pd.read_parquet(book.study.path("predictions", f"{cohort}_novelty.parquet"))
trusted = trust.trust(predictions, records, widths, novelty, cohort=cohort, seed=book.study.protocol.seed)
found = pd.concat([found, updated, trusted], ignore_index=True)
book.results(found, "metrics")
tested = records[records["split"] == "test"]
n = tested["person"].nunique()

# %% [markdown]
# ## Phenotypes
# Where a centre has no CMR phenotypes, there is nothing to hold the predictions against, and this part is empty.

# %%
means = found[found["metric"].isin(["mean_r2", "mean_r2_difference"])]
means = means[["endpoint", "arm", "fraction", "metric", "estimate", "lower", "upper", "n", "note"]]
book.table(means, "phenotypes", "Mean R2 of the phenotypes, and paired differences between arms", rows=40)

# %%
if found["metric"].eq("mean_r2").any():
    book.figure(figures.label_fractions(found, title="What labels add"), "label_fractions", n)
    book.figure(figures.phenotype_bars(found, "r2", arms=["covariates", "beat_ridge", arm]), "phenotypes", n)

# %% [markdown]
# What does the prediction add to age, sex, height and weight? An association on test people, clustered by person.

# %%
headline = book.study.protocol.endpoints.headline_phenotypes
book.table(added.added_value(predictions, records, arm, headline), "added", f"What {arm} adds to covariates")

# %% [markdown]
# ## Trust
# How many phenotypes lie inside their 90 % interval, whose width was chosen at home; how many recordings are unlike
# those the model has seen; and whether errors grow with novelty (rank correlation).

# %%
brief = trusted[trusted["endpoint"].isin([trust.ALL, *headline])].drop(
    columns=["cohort", "split", "fraction", "events"]
)
book.table(brief, "trust", "Coverage of 90 % intervals, novel recordings, and error against novelty", rows=40)

# %% [markdown]
# ## Diseases
# Intervals are DeLong's, clustered by person. A disease with too few cases is said to be not estimable.

# %%
aucs = found[found["metric"].isin(["auc", "auprc", "sensitivity", "oe"])]
aucs = aucs[["endpoint", "arm", "metric", "estimate", "lower", "upper", "n", "events", "note"]]
book.table(aucs, "diseases", "Discrimination and calibration of screening", rows=40)

# %% [markdown]
# ## Recalibrated here
# Would a shift of the log-odds of its own (`+intercept`), or a shift and a slope (`+intercept_slope`), mend the risks
# here? Each person's risk is updated by a map fitted on other people; before and after stand side by side.

# %%
kinds = ["calibration_intercept", "calibration_slope", "oe", "brier", "ici"]
shown = found[
    found["metric"].isin(kinds) & found["arm"].isin(["aligned", "aligned+intercept", "aligned+intercept_slope"])
]
shown = shown[["endpoint", "metric", "arm", "estimate", "lower", "upper", "n", "events", "note"]]
shown = shown.sort_values(["endpoint", "metric", "arm"])
book.table(shown, "recalibration", "Calibration of screening before and after recalibration at this centre", rows=60)

# %%
if found["metric"].eq("auc").any():
    book.figure(figures.auc_forest(found, title=f"{book.settings.label}: AUC per disease"), "auc", n)
