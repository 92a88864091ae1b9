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
# # Pool the centres
#
# **Question.** What holds across centres, and how much do they differ?
#
# **Inputs.** `results/<cohort>/metrics.csv` of every cohort; `received/<site>/` of the sites that sent a bundle.
#
# **Outputs.** Pooled estimates with their heterogeneity, forest plots.

# %% tags=["parameters"]
arm = "aligned"

# %%
import pandas as pd

from cardionets import cards, figures, received, report, tables
from cardionets.evaluate import people, pooling
from cardionets.evaluate.scales import SCALES
from cardionets.workbook import Workbook

book = Workbook("pool")
found = report.read_results(book.study.path("results"), book.study.path("received"))
level, home = book.study.protocol.statistics.level, book.study.protocol.study.screening
external = received.external(book.study)

# %% [markdown]
# External centres only: a development centre's test people come from the population the models were trained on.
# Random effects by REML with Hartung-Knapp intervals; the prediction interval says what to expect at the next centre.
# With three centres or fewer the heterogeneity itself is hardly known, and the table says so.

# %%
pooled = pooling.pool_metrics(found[found["cohort"].isin(external)], level)
book.table(pooled, "pooled", "Pooled over external centres", rows=30)

# %%
shown = found[found["cohort"].isin(external) & found["metric"].eq("auc") & found["arm"].eq(arm)]
shown = shown.dropna(subset=["estimate", "lower", "upper"])
for endpoint, rows in shown.groupby("endpoint", sort=False):
    if len(rows) > 1:
        values = [rows[c].to_numpy(float) for c in ("estimate", "lower", "upper")]
        summary = pooling.pool_on(SCALES["auc"], *values, level)
        title = f"{tables.endpoint_label(endpoint)}, arm {arm}"
        labelled = rows.assign(cohort=[received.label(book.study, c) for c in rows["cohort"]])
        book.figure(figures.forest(labelled, summary, "AUC", title, 0.5), f"forest_{endpoint}", int(rows["n"].sum()))

# %% [markdown]
# Does one centre carry the result? Pooled without each in turn.

# %%
without = []
for endpoint, rows in shown.groupby("endpoint", sort=False):
    if len(rows) > 2:
        values = [rows[c].to_numpy(float) for c in ("estimate", "lower", "upper")]
        left = pooling.leave_one_out(SCALES["auc"], list(rows["cohort"]), *values, level)
        without.append(left.assign(endpoint=endpoint, metric="auc", arm=arm))
if without:
    book.table(pd.concat(without, ignore_index=True), "leave_one_out", "Pooled AUC without each centre", rows=30)

# %% [markdown]
# ## Other people, or another performance?
# How far the people of each centre differ from the development cohort of screening, beside how far the AUC falls there.
# Means and shares travel, records do not.

# %%
about = report.read_people(book.study.path("results"), book.study.path("received"))
differ = people.differences(about, home)
drops = people.drops(found[found["arm"].eq(arm)], home)
book.table(differ, "case_mix", f"Standardised mean differences from {book.study.cohort(home).label}", rows=40)
book.table(drops, "drops", f"AUC at {book.study.cohort(home).label} minus AUC elsewhere", rows=40)
if len(differ) and len(drops):
    names = {k: cards.characteristic(str(k)) for k in [*differ["characteristic"], *drops["endpoint"]]}
    tables_shown = [t.assign(cohort=[received.label(book.study, c) for c in t["cohort"]]) for t in (differ, drops)]
    book.figure(figures.case_mix(*tables_shown, names, book.study.cohort(home).label), "case_mix")
