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
# # Learn the phenotypes, arm by arm
#
# **Question.** What do few labels add, from age and sex alone up to CMR itself?
#
# **Inputs.** `store/` of the paired cohort, frozen encoders; labels of training people, penalties chosen on validation
# people.
#
# **Outputs.** `weights/phenotypes/`: one head per arm and fraction of labels; `weights/conformal.csv` and
# `weights/reference.csv`: what one person's numbers are held against.

# %% tags=["parameters"]
force = False

# %%
from cardionets import arms, figures, norms
from cardionets.workbook import Workbook

book = Workbook("phenotypes")

# %% [markdown]
# Every arm sees the same people at each fraction, and fractions are nested. The arms that could prove the study wrong
# take part on equal terms: covariates alone, a ridge regression on the median beat, and that ridge with the same CMR
# teacher as ours. Test people are not looked at here: the table is of validation people.

# %%
fitted = arms.fit_phenotypes(book.study, force)

# %%
book.table(fitted.reset_index(), "validation", "Mean R2 of validation people, per arm and fraction of labels", rows=60)

# %% [markdown]
# For the page of a single patient: how far a 90 % interval reaches to either side (conformal, on validation people),
# and what is usual in healthy people of the same sex and age: the middle 95 % of them, where there are 40 or more.

# %%
widths, usual = norms.write_phenotypes(book.study)
book.table(widths.drop(columns=["level", "weights"]), "intervals", "Half-widths of 90 % intervals, full labels")

# %%
headline = book.study.protocol.endpoints.headline_phenotypes
book.figure(figures.reference_ranges(usual, headline, "What is usual in healthy training people"), "reference")
