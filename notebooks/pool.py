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
from cardionets import diseases, figures, received, report
from cardionets.evaluate import pooling
from cardionets.evaluate.scales import SCALES
from cardionets.workbook import Workbook

book = Workbook("pool")
found = report.read_results(book.study.path("results"), book.study.path("received"))
external = received.external(book.study)

# %% [markdown]
# External centres only: a development centre's test people come from the population the models were trained on.
# Random effects by REML with Hartung-Knapp intervals; the prediction interval says what to expect at the next centre.
# With three centres or fewer the heterogeneity itself is hardly known, and the table says so.

# %%
pooled = pooling.pool_metrics(found[found["cohort"].isin(external)], book.study.protocol.statistics.level)
book.table(pooled, "pooled", "Pooled over external centres", rows=30)

# %%
shown = found[found["cohort"].isin(external) & found["metric"].eq("auc") & found["arm"].eq(arm)]
shown = shown.dropna(subset=["estimate", "lower", "upper"])
for endpoint, rows in shown.groupby("endpoint", sort=False):
    if len(rows) > 1:
        values = [rows[c].to_numpy(float) for c in ("estimate", "lower", "upper")]
        summary = pooling.pool_on(SCALES["auc"], *values, book.study.protocol.statistics.level)
        title = f"{diseases.BY_NAME[endpoint].label}, arm {arm}"
        labelled = rows.assign(cohort=[received.label(book.study, c) for c in rows["cohort"]])
        book.figure(figures.forest(labelled, summary, "AUC", title, 0.5), f"forest_{endpoint}", int(rows["n"].sum()))
