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
# # Pre-train the ECG encoder
#
# **Question.** What does an ECG look like, before anybody says what it means?
#
# **Inputs.** ECGs of the development cohorts, training people; validation people stop the training.
#
# **Outputs.** `weights/ecg_mae/`: encoder, card, learning curve.

# %% tags=["parameters"]
force = False

# %%
from cardionets import figures, represent
from cardionets.workbook import Workbook

book = Workbook("pretrain_ecg")

# %% [markdown]
# A masked auto-encoder sees 40 % of the patches of a recording and rebuilds the rest, the median beat and the rhythm's
# statistics. The beat is a target in absolute voltage, because the mass of the heart is written in millivolts. No label
# and no test person takes part.

# %%
curve = represent.pretrain_ecg(book.study, force)

# %%
book.figure(figures.learning_curves(curve[[c for c in curve if c in ("epoch", "loss", "val_loss")]], "ECG"), "curve")

# %%
book.table(curve.tail(1), "last_epoch", "Errors at the last epoch (validation people: val_)")
