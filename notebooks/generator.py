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
# # Train the generator
#
# **Question.** Can a heart be drawn from its ECG alone?
#
# **Inputs.** Tokens of the paired cohort's cines, ECG tokens of the aligned encoder, training people.
#
# **Outputs.** `weights/generator/`: masked autoregressive generator, card, learning curve.

# %% tags=["parameters"]
force = False

# %%
from cardionets import figures, generate
from cardionets.workbook import Workbook

book = Workbook("generator")

# %% [markdown]
# The generator reveals the tokens of both views in a random order, a few rounds in all; each token is drawn by a small
# network given what is already there and the ECG. One training row in ten sees no ECG, which later allows guidance.

# %%
curve = generate.train_generator(book.study, force)

# %%
book.figure(
    figures.learning_curves(curve[[c for c in curve if c in ("epoch", "loss", "val_loss")]], "Generator"), "curve"
)

# %%
book.table(curve.tail(1), "last_epoch", "Errors at the last epoch (validation people: val_)")
