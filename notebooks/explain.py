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
# # Where in the ECG a phenotype is read
#
# **Question.** Which leads and waves does the aligned arm use for each headline phenotype, and do they really count?
#
# **Inputs.** ECGs of test people in `store/<cohort>/`, no label; `weights/`.
#
# **Outputs.** One 12-lead picture per phenotype, the share of each wave, and the deletion test. Aggregates only.

# %% tags=["parameters"]
cohort = "ukb"
people = 48

# %%
from cardionets import attribution, figures, phenotypes
from cardionets.beats import AFTER_S, BEFORE_S
from cardionets.workbook import Workbook

book = Workbook("explain", cohort)
headline = book.study.protocol.endpoints.headline_phenotypes
explainer = attribution.explainer(book.study)
ecgs = attribution.load_ecgs(book.study, cohort, people)

# %% [markdown]
# Integrated gradients share the difference between a person's prediction and that of the average beat among all samples
# of the ECG. Below, their size over people: where the line is dark and thick, people differ in what is read there.

# %%
found = explainer.explain(ecgs, headline)
average, rate, span = ecgs.beat.mean(0).cpu().numpy(), book.study.grid.rate, (-BEFORE_S, AFTER_S)

# %%
for name in headline:
    picture = attribution.typical(found, name, rate)
    title = f"Where {phenotypes.BY_NAME[name].label} is read"
    book.figure(figures.attributed_beat(average, picture, span, title), f"attribution_{name}", len(ecgs))

# %%
book.table(attribution.wave_shares(found, rate), "waves", "Share of each wave in the median beat; and of the record")

# %% [markdown]
# Does the picture mean something? The stretches that count most for a person are replaced by the average beat (or, in
# the record, made faint). The prediction must fall back further than when as many stretches are chosen by lot.

# %%
width = attribution.tile_width(rate)
test = attribution.deletion_test(explainer, ecgs, found, "beat", width)
book.table(test, "deletion", "Deletion test on the median beat: fall of the prediction in its SDs")

# %%
test = attribution.deletion_test(explainer, ecgs, found, "record", 9 * width)
book.table(test, "deletion_record", "Deletion test on the record")
