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
# **Outputs.** `results/<cohort>/metrics.csv`, `case_mix.csv` and `calibration.csv` (what fits a risk to this centre,
# for patients who come after), figures and tables. Aggregates only.

# %% tags=["parameters"]
cohort = "ukb"
arm = "aligned_teacher"
screening_arm = "aligned"
prevalences = [0.01, 0.05, 0.2, 0.5]

# %%
import pandas as pd

from cardionets import at_site, figures, leakage, operating, phenotypes, tables
from cardionets.evaluate import (
    added,
    metrics,
    multiplicity,
    panels,
    people,
    recalibration,
    subgroups,
    trust,
    utility,
)
from cardionets.evaluate.cube import Cube
from cardionets.workbook import Workbook

book = Workbook("validate", cohort)
protocol, label = book.study.protocol, book.settings.label
records = book.store.records
predictions = pd.read_parquet(book.study.path("predictions", f"{cohort}.parquet"))

# %% [markdown]
# ## What this centre can say, before anybody looks at a result
# Events, and the width of interval that an AUC of 0.8 or a correlation of 0.6 would get. Then the gate
# against leakage: who could have seen what. It is computed, and this notebook stops where a check fails.

# %%
book.table(multiplicity.adequacy(records, protocol), "adequacy", "Size of the sample")
proof = leakage.proof(book.store, predictions, external=not book.settings.is_split)
book.table(proof, "leakage", "Gate against leakage")

# %% [markdown]
# Everybody judged here is a test person: the test split where people are divided (at home, and at a site that lends
# training people), at any other external centre everybody.
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
book.results(recalibration.maps(predictions, records, at_site.ARMS), at_site.FILE)
about = people.characteristics(records, cohort, protocol.statistics.minimum_cell)
book.results(about, "case_mix")
n = records.loc[records["split"] == "test", "person"].nunique()
names = {name: tables.endpoint_label(name) for name in found["endpoint"].unique()}

# %% [markdown]
# ## Phenotypes
# Where a centre has no CMR phenotypes, there is nothing to hold the predictions against, and this part is empty. Arms
# are compared on the same people; `cmr`, which needs images, on those of them who have some.

# %%
means = found[found["metric"].isin(["mean_r2", "mean_r2_difference"])]
means = means[["endpoint", "arm", "fraction", "metric", "estimate", "lower", "upper", "n", "note"]]
book.table(means, "phenotypes", "Mean R2 of the phenotypes, and paired differences between arms", rows=40)

# %%
measured = found["metric"].eq("mean_r2").any()
if measured:
    book.figure(figures.label_fractions(found, title="What labels add"), "label_fractions", n)
    book.figure(figures.phenotype_bars(found, "r2", arms=["covariates", "beat_ridge", arm]), "phenotypes", n)

# %% [markdown]
# Predicted against measured, for all phenotypes, and the agreement of the headline ones. Predictions shrink towards the
# mean, which a Bland-Altman plot shows as a slope.

# %%
headline = protocol.endpoints.headline_phenotypes
if measured:
    truth, made = panels.pairs(Cube.of_arm(predictions, records, arm), phenotypes.NAMES)
    book.figure(figures.scatter_sheet(truth, made, title=f"{arm}: predicted (up) against CMR (across)"), "scatter", n)
    shown = {names[p]: (made[p], truth[p], phenotypes.BY_NAME[p].unit) for p in headline}
    book.figure(figures.bland_altman(shown, f"{arm}, agreement with CMR"), "agreement", n)

# %% [markdown]
# Headline phenotypes, arm against covariates: the difference of two correlations with one truth (Zou's interval,
# Steiger's test), Holm and Benjamini-Hochberg across phenotypes. Then what the prediction adds to age, sex, height and
# weight: an association on test people, clustered by person. Last, trust: how many phenotypes lie inside their 90 %
# interval, whose width was chosen at home; how many recordings are unlike those the model has seen; and whether errors
# grow with novelty (rank correlation).

# %%
pairs = found[found["endpoint"].isin(headline) & found["metric"].str.startswith("r_difference")]
wide = pairs.pivot_table("estimate", ["endpoint", "arm", "fraction"], "metric", sort=False).reset_index()
book.table(wide, "correlations", "Differences in correlation, with p values", rows=20)
book.table(added.added_value(predictions, records, arm, headline), "added", f"What {arm} adds to covariates")
brief = trusted[trusted["endpoint"].isin([trust.ALL, *headline])].drop(
    columns=["cohort", "split", "fraction", "events"]
)
book.table(brief, "trust", "Coverage of 90 % intervals, novel recordings, and error against novelty", rows=40)

# %% [markdown]
# ## Diseases
# Intervals are DeLong's, clustered by person, and Newcombe's where a class has fewer than 30 people. A disease without
# cases is said to be not estimable. The operating point is the threshold that was chosen at home.

# %%
columns = ["endpoint", "arm", "metric", "estimate", "lower", "upper", "n", "events", "note"]
shown = ["auc", "auprc", "auprc_balanced", "sensitivity", "specificity", "sensitivity_at_specificity"]
shown += ["specificity_at_sensitivity", "oe", "macro_auc"]
book.table(found.loc[found["metric"].isin(shown), columns], "diseases", "Discrimination of screening", rows=40)
if found["metric"].eq("auc").any():
    book.figure(figures.auc_forest(found, title=f"{label}: AUC per disease"), "auc", n)
    cube = Cube.of(predictions, records, "test")
    curves = {names[d]: panel for d, panel in panels.risks(cube, ["covariates", "beat_ridge", screening_arm]).items()}
    book.figure(figures.roc(curves, f"{label}: ROC", protocol.statistics.level), "roc", n)

# %% [markdown]
# Arms against each other on the same people: DeLong's test of the AUC, McNemar's of the decisions (one recording
# of each person, chosen by pseudonym), Holm and Benjamini-Hochberg across diseases.

# %%
tests = found[found["metric"].str.startswith(("auc_difference", "accuracy_difference"))]
tests = tests[tests["arm"].str.contains(screening_arm, regex=False)]
wide = tests.pivot_table("estimate", ["endpoint", "arm"], "metric", sort=False).reset_index()
book.table(wide, "tests", "Paired differences between arms, with p values", rows=20)

# %% [markdown]
# Predictive values follow the prevalence: at this centre's own, in 1:1 sets as earlier publications have them (0.5),
# and where screening would happen.

# %%
stated = panels.stated_prevalence(found, screening_arm, prevalences)
book.table(stated, "predictive_values", "PPV and NPV at stated prevalence", rows=40)
crossed = panels.cross_tabulation(found, screening_arm, protocol.statistics.minimum_cell)
book.table(crossed, "cross_tabulation", f"Decisions of {screening_arm} against the reference standard")

# %% [markdown]
# ## Calibration, before and after recalibration here
# Updates are fitted and judged on different people of this centre (five folds by person).

# %%
screened = Cube.of_arm(predictions, records, screening_arm)
updates = recalibration.before_and_after(screened, protocol, cohort)
kept = [c for c in ["endpoint", "recalibration", *columns[2:]] if c in updates]
book.table(updates[kept], "recalibration", f"Calibration of {screening_arm}, as received and updated", rows=30)
if screened.diseases():
    shown = {names[d]: panel for d, panel in panels.recalibrated(screened, protocol).items()}
    book.figure(figures.calibration_plot(shown, f"{label}: calibration of {screening_arm}"), "calibration", n)

# %% [markdown]
# ## Would acting on it help?
# Net benefit of treating those above a threshold, against treating everybody and nobody.

# %%
if screened.diseases():
    benefit = utility.decision_curves(cube, ["covariates", screening_arm], protocol)
    book.table(benefit, "decision", "Decision curves", rows=5)
    book.figure(figures.decision(benefit, names, f"{label}: decision curves"), "decision", n)

# %% [markdown]
# ## Is it as good for everybody?
# A gap between subgroups is positive by chance alone; the interaction test says whether it is more than that.

# %%
groups = subgroups.evaluate(predictions, records, protocol, screening_arm, cohort)
book.table(groups[["variable", "group", *columns]], "subgroups", f"{screening_arm} in subgroups", rows=20)
for metric, name in (("auc", "subgroups_diseases"), ("r", "subgroups_phenotypes")):
    if groups.loc[groups["metric"] == metric, "estimate"].notna().any():
        title = f"{label}: {screening_arm} in subgroups"
        book.figure(figures.subgroup_forest(groups, names, metric, title), name, n)
