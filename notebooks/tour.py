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
# # A tour of the study
#
# **Question.** What does each stage of the study ask, and what did it find?
#
# **Inputs.** What the stages left in `reports/` and `results/`; what is not there yet is named with the command that
# makes it. `cohort`: whose results to look at.
#
# **Outputs.** Nothing is computed and nothing is written.

# %% tags=["parameters"]
cohort = "ukb"

# %%
from cardionets import tour
from cardionets.workbook import Workbook

book = Workbook("tour", cohort)
study, endpoints = book.study, book.study.protocol.endpoints
tour.overview(study, cohort)

# %% [markdown]
# ## 1. Which recordings can be trusted: `prepare`
# A centre's own files are read, every lead by its name and every amplitude in its unit, and pass through quality gates.
# A recording that fails is left out **with a reason**; the flow diagram counts them. What passes becomes a flat store:
# one row per ECG, and its cine where there is one.

# %%
tour.show(study, cohort, "prepare", "flow", "ecg", "cine")

# %% [markdown]
# ## 2. Learning without labels: `pretrain_ecg`, `pretrain_cmr`, `align`
# An ECG network learns to fill in what was masked, a CMR network the same in cines. Alignment then asks the ECG of each
# person for the CMR embedding of the same person. No phenotype and no diagnosis enters here, so that one encoder serves
# every later comparison. The curves are losses on people held out for validation.

# %%
tour.show(study, cohort, "align", "curve")

# %% [markdown]
# ## 3. Few labels, many arms: `phenotypes`, `screening`
# Small heads turn what the encoder sees into phenotypes and probabilities. Rivals are fitted beside them on the same
# people: age, sex, height and weight alone; a ridge on the median beat; the network from scratch; CMR itself. An
# encoder is worth having where its arm beats the simple ones, above all with few labels.

# %%
tour.show(study, cohort, "validate", "label_fractions", "phenotypes")

# %% [markdown]
# Each number below is of people whom no model has seen. R² compares with guessing the mean: 1 is perfect, 0 no better.

# %%
tour.numbers(study, cohort, "r2", endpoints.headline_phenotypes)

# %%
tour.numbers(study, cohort, "auc", endpoints.diseases)
tour.show(study, cohort, "validate", "auc")

# %% [markdown]
# ## 4. How well could anybody do: `attainable`
# Only in a simulated study are the true hearts known. Some of what the heart is never reaches the ECG, so no model can
# know it: this is the ceiling against which the arms are to be read.

# %%
tour.show(study, cohort, "attainable", "attainable")

# %% [markdown]
# ## 5. Drawing the heart: `tokenizer`, `generator`, `images`
# A tokenizer learns to write a cine as a few numbers; the generator draws those numbers from the ECG. Real cines are
# above or left, drawn ones below or right: is it the heart **of that person**, or only some heart?

# %%
tour.show(study, cohort, "images", "case_median", "moving")

# %% [markdown]
# ## 6. Across centres: `pool`, `report`
# The centres' results are pooled with random effects; with few centres the interval is wide, and is said to be. The
# report gathers everything: `reports/index.html`.

# %%
tour.show(study, cohort, "pool", "forest_cardiomyopathy", "forest_heart_failure")

# %% [markdown]
# ## Where to go on
# Open the notebook of the stage that interests you, change a value in its second cell and run all cells: what you make
# lies in `scratch/` and disturbs nothing. `patient` shows one ECG and all that the models say of it. The guide is
# `docs/analyst.md`.
