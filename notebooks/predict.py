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
# # Predict one centre
#
# **Question.** What does every arm of the study say about every recording of this centre?
#
# **Inputs.** `store/<cohort>/`, the weights.
#
# **Outputs.** `predictions/<cohort>.parquet`: record x arm x label fraction x endpoint; `<cohort>_novelty.parquet`: how
# strange each recording is to the model. Patient-level: both stay here.

# %% tags=["parameters"]
cohort = "ukb"

# %%
from cardionets import novelty, predict
from cardionets.workbook import Workbook

book = Workbook("predict", cohort)

# %% [markdown]
# Weights are refused when their input contract is not the one of this store. People a model was fitted on are left out.

# %%
counts = predict.predict(book.study, cohort)

# %%
book.table(counts, "predictions", "Recordings predicted per arm and fraction of labels", rows=80)

# %% [markdown]
# A recording beyond the threshold is unlike those the model has learnt from; at home 5 % are.

# %%
book.table(novelty.score(book.study, cohort), "novelty", "Novelty of the recordings: 1 is usual")
