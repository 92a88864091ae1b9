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
from cardionets import cards, figures, received, report, tables
from cardionets.evaluate import people, pooling
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
shown = found[found["cohort"].isin(external) & found["arm"].eq(arm) & found["fraction"].eq(1)]
shown = shown.assign(centre=[received.label(book.study, c) for c in shown["cohort"]])
named = shown.assign(cohort=shown["centre"])
for key, rows in pooling.groups(named[named["metric"] == "auc"]):
    summary, title = pooling.pool_rows("auc", rows, level), f"{tables.endpoint_label(key['endpoint'])}, arm {arm}"
    name = f"forest_{key['endpoint']}"
    book.figure(figures.forest(rows, summary, "AUC", title, 0.5), name)

# %% [markdown]
# Calibration, and the correlation of the phenotypes where centres measured them: one sheet each. O/E is pooled on the
# log scale, correlations on Fisher's z; 1 is ideal for the first two.

# %%
headline = [*book.study.protocol.endpoints.diseases, *book.study.protocol.endpoints.headline_phenotypes]
sheets = {"oe": ("O/E", 1.0), "calibration_slope": ("Calibration slope", 1.0), "r": ("r", None)}
for metric, (words, ideal) in sheets.items():
    some = named[named["metric"].eq(metric) & named["endpoint"].isin(headline)]
    pools = {
        tables.endpoint_label(key["endpoint"]): (rows, pooling.pool_rows(metric, rows, level))
        for key, rows in pooling.groups(some)
    }
    if pools:
        book.figure(figures.forest_sheet(pools, words, f"{words} of {arm}", ideal), f"forests_{metric}")

# %% [markdown]
# Does one centre carry the result? AUC, O/E, calibration slope and correlation, pooled without each in turn.

# %%
without = pooling.leave_each_out(shown, level)
if len(without):
    book.table(without, "leave_one_out", "Pooled without each centre", rows=40)

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
    most = about.groupby("cohort")["n"].max().dropna().astype(int)  # fewer where something is not known of everybody
    centres = dict.fromkeys([home, *differ["cohort"], *drops["cohort"]])
    labels = {c: received.label(book.study, c) + (f", n ≤ {most[c]:,}" if c in most else "") for c in centres}
    tables_shown = [t.assign(cohort=t["cohort"].map(labels)) for t in (differ, drops)]
    book.figure(figures.case_mix(*tables_shown, names, labels[home]), "case_mix")
