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
# **Outputs.** `store/<cohort>/`: ECGs of 12 leads in microvolts at one rate, cines in millimetres on one phase grid,
# one table with a row per ECG; a flow diagram with a reason for every exclusion; Table 1.

# %% tags=["parameters"]
cohort = "ukb"
workers = 0

# %%
from cardionets import figures, prepare, splits, tables
from cardionets.workbook import Workbook

book = Workbook("prepare", cohort)

# %% [markdown]
# Leads are matched by name, units and rates are read from the files and checked for plausibility. A record that fails a
# check is excluded with its reason; nothing is repaired in silence. With `workers = 0` every core takes part; the bytes
# written do not depend on it.

# %%
prepare.prepare(book.study, cohort, workers=workers or None)
records, flow = book.store.records, book.store.flow
book.results(flow, "flow")

# %%
diagram = figures.stard(flow, f"{book.settings.label}: recordings and people")
book.figure(diagram, "flow", n=records["person"].nunique())

# %%
book.table(flow, "flow", "Recordings and people at each step, by reason, sex and age band", rows=40)

# %% [markdown]
# ## Who they are
# One row per person (of several recordings one counts, chosen by pseudonym): mean (SD) or n (%).

# %%
people = records.drop_duplicates("person")
book.table(tables.table_one({book.settings.label: people}), "table_one", "Characteristics", rows=60)

# %%
book.figure(figures.distributions(people, f"{book.settings.label}: people by sex"), "people", n=len(people))

# %% [markdown]
# ## The split is by person
# A salted hash of the person decides, so adding people later never moves anyone. The gate below stops the stage if one
# person is in two splits.

# %%
splits.require_disjoint(records, f"store/{cohort}")
counts = records.groupby("split").agg(ECGs=("record", "size"), people=("person", "nunique"))
book.table(counts.reset_index(), "splits", "ECGs and people per split")

# %% [markdown]
# ## One recording, as a cardiologist reads it

# %%
one = records.iloc[0]
title = f"{one['sex']}, {one['age']:.0f} years, {one['rate_bpm']:.0f} bpm"
book.figure(figures.ecg(book.store.ecg[one["row"]].astype(float), book.store.grid.rate, title), "ecg", n=1)

# %% [markdown]
# ## One heart over its cycle, where this centre has CMR

# %%
seen = records[(records["sax_row"] >= 0) & (records["lax_row"] >= 0)].head(1)
views = {"short axis": (book.store.sax, "sax_row"), "four-chamber": (book.store.lax, "lax_row")}
cines = {view: array[row] for view, (array, column) in views.items() for row in seen[column]}
if cines:
    book.figure(figures.cine_strip(cines, title="Prepared cines"), "cine", n=1)
