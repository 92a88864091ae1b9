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
# # Draw the hearts of one centre
#
# **Question.** Is the heart that is drawn from an ECG the heart of that patient?
#
# **Inputs.** ECGs of `store/<cohort>/`, the generator; real cines and phenotypes, where this centre has them, to judge
# by.
#
# **Outputs.** `predictions/<cohort>_cines/` (patient-level, stays here), `results/<cohort>/images.csv`, pictures that
# move.

# %% tags=["parameters"]
cohort = "ukb"
samples = 1

# %%
import numpy as np

from cardionets import draw, figures, judge
from cardionets.workbook import Workbook

book = Workbook("images", cohort)

# %% [markdown]
# Every cine is drawn from the ECG and a seed of its own, so that the same recording always gives the same heart.

# %%
draw.generate(book.study, cohort, samples)
found = judge.judge(book.study, cohort)
book.results(found, "images")

# %% [markdown]
# ## Against the truth, and against what needs no patient
# `shuffled` is the same generator with another patient's ECG: what it reaches, the picture owes to being a heart at
# all. `training_mean` is the average training cine, `neighbour` the cine of the most similar training ECG, and
# `reconstruction` the ceiling.

# %%
shown = found[["endpoint", "arm", "metric", "estimate", "lower", "upper", "n", "note"]]
book.table(shown, "images", "How close the drawn cines are", rows=60)

# %% [markdown]
# ## Best, median and worst
# Chosen by the similarity of the drawn to the real short axis, among test people with both.

# %%
cases = judge.cases(book.study, cohort)
for name, cines in cases.items():
    book.figure(figures.cine_strip(cines, title=f"{name} case"), f"case_{name}", n=1)

# %%
drawn = draw.Drawn.open(book.study, cohort)
first = {f"drawn {view}": np.asarray(drawn.arrays[view][0]) for view in drawn.arrays}
moving = cases.get("median", first)
book.animation(figures.animate(moving, simulated=book.settings.simulated), "moving")
