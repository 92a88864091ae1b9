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
# # Prepare one centre
#
# **Question.** Which recordings of this centre can be trusted, and why were the others left out?
#
# **Inputs.** The centre's own files, as `cohorts.yaml` declares them.
#
# **Outputs.** `store/<cohort>/`: ECGs of 12 leads in microvolts at one rate, cines in millimetres at one phase grid, one table with a row
# per ECG; a flow diagram with a reason for every exclusion; Table 1.

# %% tags=["parameters"]
cohort = "ukb"
workers = 0

# %%
from cardionets import figures, prepare, splits, tables
from cardionets.store import Store
from cardionets.workbook import Workbook

book = Workbook("prepare", cohort)

# %% [markdown]
# Leads are matched by name, units and rates are read from the files and checked for plausibility. A record that fails a check is excluded
# with its reason; nothing is repaired in silence. With `workers = 0` every core takes part; the bytes written do not depend on it.

# %%
path = prepare.prepare(book.study, cohort, workers=workers or None)
store = Store.open(path, book.study.grid)
records = store.records

# %%
book.figure(figures.stard(store.flow, f"{book.settings.label}: recordings and people"), "flow", n=records["person"].nunique())
book.table(store.flow, "flow")

# %% [markdown]
# ## Who they are
# One row per person (the first recording counts); standard deviations or percentages in brackets.

# %%
first = records.drop_duplicates("person")
book.table(tables.table_one({book.settings.label: first}), "table_one", rows=60)

# %% [markdown]
# ## The split is by person
# A salted hash of the person decides, so adding people later never moves anyone. The gate below stops the stage if one person is in two splits.

# %%
splits.require_disjoint(records, f"store/{cohort}")
counts = records.groupby("split").agg(ECGs=("record", "size"), people=("person", "nunique"), cines=("sax_row", lambda r: int((r >= 0).sum())))
book.table(counts.reset_index(), "splits")

# %% [markdown]
# ## One recording, as a cardiologist reads it

# %%
shown = records.iloc[0]
book.figure(figures.ecg(store.ecg[shown["row"]], store.grid.rate, f"{shown['sex']}, {shown['age']:.0f} years, {shown['rate_bpm']:.0f} bpm"), "ecg", n=1)
