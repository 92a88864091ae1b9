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
# # Pre-train the CMR encoders
#
# **Question.** What does a beating heart look like, in two views of the same person?
#
# **Inputs.** Short-axis and four-chamber cines of the paired cohort, training people; validation people stop
# the training.
#
# **Outputs.** `weights/cmr_mae/`: one encoder per view, card, learning curve.

# %% tags=["parameters"]
force = False

# %%
from cardionets import figures, represent
from cardionets.workbook import Workbook

book = Workbook("pretrain_cmr")

# %% [markdown]
# Each encoder rebuilds the hidden patches of its cine, and the two embeddings of one heart are pulled together against
# those of all other hearts. No label and no test person takes part.

# %%
curve = represent.pretrain_cmr(book.study, force)

# %%
book.figure(figures.learning_curves(curve[[c for c in curve if c in ("epoch", "loss", "val_loss")]], "CMR"), "curve")

# %%
book.table(curve.tail(1), "last_epoch", "Errors at the last epoch (validation people: val_)")
