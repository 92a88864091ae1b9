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
# # What each ingredient is worth
#
# **Question.** Which part of the recipe carries the gain, does it hold for other seeds, and how far is it from what
# anybody could reach?
#
# **Inputs.** `store/` of the development cohorts and `weights/cmr_mae`, shared by all variants; `weights/ecg_mae` and
# `weights/align` of the study are the first seed.
#
# **Outputs.** Three tables. `ablation/work/` keeps what was trained: a run that is stopped continues, other settings
# start afresh. After a change of the code, remove that folder.

# %% tags=["parameters"]
seeds = 3
variants = ""
split = "test"

# %%
from cardionets import ablation, ablation_tables
from cardionets.workbook import Workbook

book = Workbook("ablation")
chosen = [name for name in ablation.VARIANTS if name in variants.split() or not variants]

# %% [markdown]
# The first seed is the study's own. Penalties and early stopping look at validation people; test people are looked at
# once, for the tables. The variants of one seed are trained before the next seed begins, so that a run that is stopped
# has compared like with like.

# %%
for seed in range(seeds):
    for name in chosen:
        ablation.train(book.study, name, seed, ablation.RIVALS if name == "whole" else ())

# %% [markdown]
# Every number is a median over the seeds that are there (`seeds`), with an interval of a bootstrap over the same
# people. Three answers need no variant of their own: without alignment is the arm `mae`, without CMR as a teacher is
# `aligned`, and without any pre-training is `scratch`, all rows of the variant `whole`.

# %%
found = ablation_tables.Found.of(book.study, ablation.finished(book.study, seeds), split)
table = ablation_tables.variants(found)
book.table(table, "ablation", "Mean R2 over the phenotypes: median of seeds, and what is lost without", rows=120)

# %%
gains = ablation_tables.gains(found)
book.table(gains, "gains", "The whole recipe minus its rivals: mean R2, and as a share of the rival's", rows=60)

# %% [markdown]
# The ceiling is a regression from the noise-free electrical properties of the simulated hearts, fitted on as many
# people: what nobody could read from these ECGs is not held against a network.

# %%
shares = ablation_tables.shares(found)
if len(shares):
    book.table(shares, "attainable", "Share of the attainable R2 at full labels: median of seeds", rows=70)
