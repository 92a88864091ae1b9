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
# **Outputs.** `predictions/<cohort>.parquet`: record x arm x label fraction x endpoint. Patient-level: it stays here.

# %% tags=["parameters"]
cohort = "ukb"

# %%
import pandas as pd

from cardionets import predict
from cardionets.workbook import Workbook

book = Workbook("predict", cohort)

# %% [markdown]
# Weights are refused when their input contract is not the one of this store.

# %%
path = predict.predict(book.study, cohort)
predictions = pd.read_parquet(path)

# %%
shape = predictions.groupby(["arm", "fraction"]).agg(
    recordings=("record", "nunique"),
    endpoints=("endpoint", "nunique"),
    missing=("value", lambda v: int(v.isna().sum())),
)
book.table(shape.reset_index(), "predictions", "Predictions per arm and fraction of labels", rows=80)
