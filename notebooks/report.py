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
# # The report of the study
#
# **Question.** What did the study find, in one page?
#
# **Inputs.** `results/`, `received/`, and the figures and tables that the stages have published under `reports/`.
#
# **Outputs.** `reports/study/report/study.html`, one page that works without a network, and `study.pdf`; `pack.html`,
# the reporting checklists with links; `reports/index.html`, which leads to everything; `metrics.json` and `plots/` for
# `dvc metrics` and `dvc plots`.

# %% tags=["parameters"]
arm = "aligned"

# %%
from cardionets import pack, received, report, views
from cardionets.findings import Findings
from cardionets.workbook import Workbook

book = Workbook("report")
found = report.read_results(book.study.path("results"), book.study.path("received"))

# %% [markdown]
# ## The findings in words
# Every number below is read from the metrics tables.

# %%
external = received.external(book.study)
print("\n".join(Findings(book.study, found, arm, external).in_words()))

# %%
page = report.build_study(book.study, found, out=book.out / "study.html")
views.write_summary(found, book.out / "metrics.json", arm)
views.write_plots(found, book.out / "plots", arm)

# %% [markdown]
# ## What journals ask for
# Checklists with links to what answers each item, the gate against leakage, cards of models and data, methods.

# %%
cohorts = report.present(book.study, found, book.study.path("reports"))
folder = book.study.path("reports", "study", "report")
pack.build(book.study, cohorts, report.methods_paragraphs(book.study), book.out, folder)
index = report.build_index(book.study, front="study/report/study.html")
