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
# # Check one centre before anything runs
#
# **Question.** What does the study understand of this centre's files, and what has to be mended first?
#
# **Inputs.** The centre's block in `cohorts.yaml`, its tables, and a sample of its recordings and cines.
#
# **Outputs.** None on disk: the findings name files of the centre and are for its own eyes. The same lines come from
# `python -m cardionets check COHORT`, which ends with exit code 1 where there is an error.

# %% tags=["parameters"]
cohort = "ukb"
sample = 50

# %%
from IPython.display import display

from cardionets.cohorts.check import check
from cardionets.workbook import Workbook

book = Workbook("check", cohort)
findings = check(book.study, cohort, sample=sample)

# %% [markdown]
# ## What has to be mended
# Errors stop the study; warnings cost records or precision. Every line carries its remedy.

# %%
faults = findings[findings["level"] != "OK"].sort_values("level", kind="stable")
display(faults.style.hide(axis="index") if len(faults) else "nothing")

# %% [markdown]
# ## What is understood
# Formats, counts, leads, rates, lengths, amplitudes, heart rates, missing fields, images, labels and splits.

# %%
display(findings[findings["level"] == "OK"][["item", "finding"]].style.hide(axis="index"))
