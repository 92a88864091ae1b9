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
# **Outputs.** `reports/study/report/study.html`, one page that works without a network; `reports/index.html`, which
# leads to everything; `metrics.json` for `dvc metrics`.

# %% tags=["parameters"]
arm = "aligned"

# %%
from cardionets import report
from cardionets.workbook import Workbook

book = Workbook("report")
found = report.read_results(book.study.path("results"), book.study.path("received"))

# %% [markdown]
# ## The findings in words
# Every number below is read from the metrics tables.

# %%
for sentence in report.phenotype_sentences(book.study, found, arm) + report.screening_sentences(book.study, found, arm):
    print(f"- {sentence}")

# %%
page = report.build_study(book.study, found, out=book.out / "study.html")
report.write_summary(found, book.out / "metrics.json", arm)
index = report.build_index(book.study, front="study/report/study.html")
