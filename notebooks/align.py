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
# # Align the ECG with the heart it came from
#
# **Question.** What in an ECG says which heart it came from?
#
# **Inputs.** Pairs of ECG and CMR of the paired cohort, training people; the pre-trained encoders.
#
# **Outputs.** `weights/align/`: the aligned ECG encoder, card, learning curve.

# %% tags=["parameters"]
force = False

# %%
from cardionets import figures, represent
from cardionets.workbook import Workbook

book = Workbook("align")

# %% [markdown]
# Symmetric InfoNCE pulls an ECG towards the short-axis and the four-chamber cine of the same person, and the ECG also
# predicts the main components of their CMR embeddings. The CMR encoders stay frozen. No phenotype label takes part, so
# the same encoder serves every fraction of labels.

# %%
curve = represent.align(book.study, force)

# %%
book.figure(
    figures.learning_curves(curve[[c for c in curve if c in ("epoch", "loss", "val_loss")]], "Alignment"), "curve"
)

# %%
book.table(curve.tail(1), "last_epoch", "Errors at the last epoch (validation people: val_)")
