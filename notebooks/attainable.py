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
# # How well could anybody do?
#
# **Question.** What part of each phenotype does the heart write into its ECG at all?
#
# **Inputs.** The simulated truth of the paired cohort, which no other stage reads; its store; the tokenizer;
# `predictions/<cohort>.parquet`. Of real people nobody knows the truth: then the tables say so and hold no number.
#
# **Outputs.** Metrics of the ceiling, `results/<cohort>/attainable.csv` and `results/<cohort>/ceiling.csv`.

# %% tags=["parameters"]
cohort = "ukb"

# %%
import pandas as pd

from cardionets import attainable, ceiling, figures, tables
from cardionets.evaluate import metrics
from cardionets.workbook import Workbook

book = Workbook("attainable", cohort)

# %% [markdown]
# A regression from the noise-free electrical properties of each simulated heart, fitted on training people and chosen
# on validation people, is held against the measured phenotypes of test people. What it leaves unexplained never reached
# the electrodes, or is error of the CMR measurement.

# %%
simulated = book.settings.simulated
if simulated:
    predicted = attainable.attainable(book.study, cohort)
    found = metrics.evaluate(predicted, book.store.records, book.study, cohort=cohort)
    said = pd.read_parquet(book.study.path("predictions", f"{cohort}.parquet"))
    shares = attainable.shares(book.study, cohort, predicted, said)
else:
    found, shares = (attainable.unknown(cohort, [(attainable.ALL, metric)]) for metric in ("mean_r2", "r2_share"))
book.results(pd.concat([found, shares], ignore_index=True), "attainable")

# %%
if simulated:
    book.figure(figures.phenotype_bars(found, "r2", title="Attainable"), "attainable", n=int(found["n"].max()))

# %%
mean = found[found["endpoint"].isin(["all_phenotypes", *book.study.protocol.endpoints.headline_phenotypes])]
book.table(mean[mean["metric"].isin(["mean_r2", "r2", "r"])], "attainable", "The attainable ceiling")

# %% [markdown]
# What an arm reaches of it with all labels: its R2 over the attainable R2, both on the same people. An arm that is told
# age, sex, height and weight can exceed 1, because the ceiling knows the heart's electricity alone.

# %%
book.table(tables.metrics_wide(shares, "r2_share", 1.0), "shares", "Share of the attainable R2, all labels")

# %% [markdown]
# ## How like the real heart can a drawn one be?
# The ridge that draws cines from the ECG is shown the truth instead: `attainable` the noise-free determinants of the
# ECG, `known_heart` all 82 true phenotypes. Neither comes near 1: trabeculae, lungs, coils and noise are the picture's
# own, and similarity by pixels counts them all. Compare with `ridge`, `generated` and `training_mean` of the same
# people in the images of this centre.

# %%
pictures = ceiling.ceiling(book.study, cohort)
book.results(pictures, "ceiling")
shown = pictures[["endpoint", "arm", "metric", "estimate", "lower", "upper", "n", "note"]]
book.table(shown, "ceiling", "Cines drawn from the truth, against the real ones")
