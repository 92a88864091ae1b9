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
from cardionets import choosing, draw, figures, generate
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

# %% [markdown]
# Beside it, with the same size and budget, the older approach was trained: flow over the whole latent (`_flow` above).
#
# ## At which temperature to draw
# Validation people decide, by a rule set beforehand: the highest temperature at which the drawn cine is at least as
# close to the real one (SSIM, both views) as the mean training cine. `variance` is that of the drawn tokens between
# people as a share of the real one: what a low temperature costs. The preset holds the choice.

# %%
table = choosing.temperatures(book.study)
book.table(table, "temperatures", "Closeness to the real cine, validation people")
used = draw.Artist(book.study).how.temperature
print(f"The rule takes {choosing.choose(table):g}; the preset draws at {used:g}.")
