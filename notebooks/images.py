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
#
# To draw a whole cohort into NIfTI, GIF and MP4: `python -m cardionets generate COHORT`.

# %% tags=["parameters"]
cohort = "ukb"
samples = 3

# %%
import numpy as np

from cardionets import draw, figures, judge, sweeps
from cardionets.workbook import Workbook

book = Workbook("images", cohort)

# %% [markdown]
# Every cine is drawn from the ECG and a seed of its own, so that the same recording always gives the same heart.
# Several samples of one ECG differ where the ECG does not say: their pixelwise SD is the map of doubt.

# %%
draw.generate(book.study, cohort, samples)
found = judge.judge(book.study, cohort)
book.results(found, "images")

# %% [markdown]
# ## Against the truth, and against what needs no patient
# `generated` is a single cine at the low temperature that validation people chose, near the likeliest heart.
# `posterior_sample` is one at temperature 1, with all the detail that the ECG does not fix; `generated_mean` is the
# mean of several of these: closer to any one heart than a sample can be, and blurred. `latent_flow` and
# `latent_flow_sample` are the older approach, flow over the whole latent, of the same size and budget, at the same two
# temperatures.
# `shuffled` is the same generator with another patient's ECG: what it reaches, the picture owes to being a heart at
# all. `training_mean` is the average training cine, `neighbour` the cine of the most similar training ECG, and
# `reconstruction` the ceiling. Doubt is calibrated where `error_over_doubt` is 1, and well placed where `doubt_r` is
# high. `frechet` is the distance of whole cines in the features of the CMR encoders, `frechet_image` that of their
# end-diastolic frames standing still.

# %%
book.table(
    judge.side_by_side(found),
    "side_by_side",
    "One sample, the mean of several, and the others (intervals: table images)",
    60,
)

# %% [markdown]
# In words, from paired differences: a rival counts as beaten, or as better, where the interval excludes 0.

# %%
for sentence in judge.verdicts(found):
    print(f"- {sentence}")

# %%
shown = found[["endpoint", "arm", "metric", "estimate", "lower", "upper", "n", "note"]]
book.table(shown, "images", "How close the drawn cines are", rows=30)

# %% [markdown]
# ## Best, median and worst
# Chosen by the similarity of the drawn to the real short axis, among test people with both. Doubt is in colours, whose
# range in grey levels is written above it.

# %%
cases = judge.cases(book.study, cohort)
for name, case in cases.items():
    book.figure(figures.cine_strip(case.cines, title=f"{name} case"), f"case_{name}", n=1)

# %%
drawn = draw.Drawn.open(book.study, cohort)
first = {f"drawn {view}": np.asarray(drawn.arrays[view][0]) for view in ("sax", "4ch")}
median = cases.get("median", judge.Case(str(drawn.index["record"].iloc[0]), first))
book.animation(figures.animate(median.cines, simulated=book.settings.simulated), "moving")

# %% [markdown]
# The ECG, and the heart that was drawn from it, in the rhythm of this patient.

# %%
person = book.store.records.set_index("record").loc[median.record]
signal = np.asarray(book.store.ecg[int(person["row"])], dtype=float)
beat = 60 / person["rate_bpm"] if person["rate_bpm"] > 0 else 1.0
strip = figures.beating(median.cines, signal, book.study.grid.rate, beat, book.settings.simulated)
book.animation(strip, "beating")

# %% [markdown]
# ## From one patient's heart to another's
# The ECG moves in five steps from the patient whose drawn heart has little muscle (5th percentile) to one with much
# (95th); the random numbers stay. What the table shows to change, the generator reads from the ECG.

# %%
way = sweeps.sweep(book.study, cohort, *sweeps.extremes(book.study, cohort))
book.animation(figures.animate(way.shown(), scale=2, simulated=book.settings.simulated), "sweep")
book.table(way.measured, "sweep", "Measured on the drawn hearts along the way")
