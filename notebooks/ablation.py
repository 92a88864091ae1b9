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
# **Question.** Which part of the recipe carries the gain, and does it hold for other seeds?
#
# **Inputs.** `store/` of the development cohorts and `weights/cmr_mae`, shared by all variants.
#
# **Outputs.** One table: mean R2 per variant, and what is lost without it. `ablation/work/` keeps what was trained: a
# run that is stopped continues.

# %% tags=["parameters"]
seeds = 3
variants = ""
split = "test"

# %%
from cardionets import ablation
from cardionets.workbook import Workbook

book = Workbook("ablation")
chosen = [name for name in ablation.VARIANTS if name in variants.split() or not variants]

# %% [markdown]
# The first seed is the study's own. Penalties and early stopping look at validation people; test people are looked at
# once, for the table.

# %%
for seed in range(seeds):
    for name in chosen:
        ablation.train(book.study, name, seed, networks=["scratch"] if name == "whole" else [])

# %% [markdown]
# Three answers need no variant of their own: without alignment is the arm `mae`, without the CMR teacher is `aligned`,
# and without any pre-training is `scratch`, all rows of the variant `whole`.

# %%
found = ablation.table(book.study, ablation.finished(book.study, seeds), split)
book.table(found, "ablation", "Mean R2 over the phenotypes: median of seeds, and what is lost without", rows=120)
