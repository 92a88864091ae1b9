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
# # Learn to screen, arm by arm
#
# **Question.** What does the encoder add to screening for disease, over age, sex and the beat itself?
#
# **Inputs.** `store/` of both development cohorts at natural prevalence; penalties and thresholds are chosen on
# validation people.
#
# **Outputs.** `weights/screening/`: one head per arm and disease; `weights/subtypes/`: dilated, hypertrophic or
# restrictive, given cardiomyopathy; `weights/*.csv`: thresholds, prevalence; `weights/novelty/`: which ECGs are
# familiar.

# %% tags=["parameters"]
force = False

# %%
from cardionets import arms, norms, novelty, operating
from cardionets.workbook import Workbook

book = Workbook("screening")

# %% [markdown]
# No case is matched to a control: probabilities stay those of the clinic. The threshold of each disease is the one that
# reaches the protocol's specificity on validation people; every centre is judged at that same threshold.

# %%
fitted = arms.fit_screening(book.study, force)

# %%
book.table(fitted.reset_index(), "validation", "Skill on validation people: 1 - log loss / log loss of the prevalence")

# %%
book.table(operating.choose(book.study), "thresholds", "Thresholds, carried to every centre", rows=80)

# %% [markdown]
# For the page of a single patient, and for a centre that moves a threshold: how common each disease was among the
# people that screening learnt from.

# %%
book.table(norms.write_prevalence(book.study), "prevalence", "Prevalence at development, training people")

# %% [markdown]
# How far an embedding may lie from those of training people before the record counts as new: 5 % of validation people
# lie beyond the threshold.

# %%
book.table(novelty.fit(book.study), "novelty", "Validation people beyond the novelty threshold")
