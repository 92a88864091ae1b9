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
# # Tokenize the cines
#
# **Question.** How few numbers still draw a beating heart?
#
# **Inputs.** Cines of the paired cohort, training people; validation people stop the training.
#
# **Outputs.** `weights/tokenizer/`: auto-encoder of both views, card, learning curve.

# %% tags=["parameters"]
force = False

# %%
from cardionets import figures, generate
from cardionets.workbook import Workbook

book = Workbook("tokenizer")

# %% [markdown]
# Each view is compressed to a small grid of continuous tokens; what the tokenizer cannot rebuild, no generator can
# draw.

# %%
curve = generate.train_tokenizer(book.study, force)

# %%
book.figure(
    figures.learning_curves(curve[[c for c in curve if c in ("epoch", "loss", "val_loss")]], "Tokenizer"), "curve"
)

# %%
book.table(curve.tail(1), "last_epoch", "Errors at the last epoch (validation people: val_)")
