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
# # A ruler for drawn cines
#
# **Question.** How large is the heart in a picture, drawn or real?
#
# **Inputs.** Segmentation masks of the paired cohort's training people; the tokenizer.
#
# **Outputs.** `weights/segmenter/`: a small segmentation network, calibrated on validation people's reconstructions.

# %% tags=["parameters"]
force = False

# %%
from cardionets import figures, generate
from cardionets.workbook import Workbook

book = Workbook("segmenter")

# %% [markdown]
# Volumes, mass and wall thickness of a drawn cine are measured as those of a real one would be: on segmentations. The
# network learns from development masks, sees tokenizer reconstructions as well as originals, and never a test person.

# %%
curve = generate.train_segmenter(book.study, force)

# %%
book.figure(figures.learning_curves(curve[[c for c in curve if c in ("epoch", "loss", "val_loss")]], "Ruler"), "curve")

# %%
book.table(curve.tail(1), "last_epoch", "Errors at the last epoch (validation people: val_)")
