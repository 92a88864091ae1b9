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
# # Reader study
#
# **Question.** Does a generated cine help readers, how near does it come to the real one, and how do readers compare
# with the model alone?
#
# **Inputs.** `store/<cohort>/`, `predictions/<cohort>_cines/` where cines were generated,
# `predictions/<cohort>.parquet` and the thresholds chosen at home; the readers' CSV files, once they have read.
#
# **Outputs.** Without `answers`: `kit/` with one reading page per reader and session, the key and a sheet for the
# coordinator; simulated readers then prove the analysis. With `answers` (a folder with the kit's `key.csv` and the
# returned CSV files): figures and tables of the readers' performance. The kit is patient-level and stays here.

# %% tags=["parameters"]
cohort = "fahzu"
endpoint = "cardiomyopathy"
cases = 24
readers = 6
levels = ["junior", "senior"]
washout_days = 28
seed = 2411136
arm = "aligned"
simulate_readers = True
answers = ""

# %%
from pathlib import Path

from IPython.display import Markdown, display

from cardionets import reading, reading_analysis, reading_answers
from cardionets.config import check
from cardionets.figures import readers as pictures
from cardionets.workbook import Workbook

book = Workbook("reader_study", cohort)
drawn = reading.drawn_cines(book.study, cohort)
arms, left_out = reading.possible_arms(book.store, drawn)
settings = {"endpoint": endpoint, "cases": cases, "readers": readers, "levels": levels, "arms": arms}
settings |= {"washout_days": washout_days, "seed": seed}
design = check(reading.Design, settings, "notebooks/reader_study.py: parameters")
display(Markdown("\n\n".join(left_out)))

# %% [markdown]
# ## The case list
# Test people only, one recording each, drawn at random within true status, so the share of cases with the finding is
# the design's and not the clinic's: accuracy here is not accuracy in a clinic. Every reader reads every case once in
# each arm, one arm per session, in an order and under case numbers of their own, with a washout between sessions.

# %%
if not answers:
    people = reading.eligible(book.store.records, design, drawn)
    listed = reading.draw_cases(people, design)
    key = reading.allocate(listed, design)
    text = f"{cases} cases asked for, {len(listed)} drawn ({int(listed['truth'].sum())} with the finding)"
    display(Markdown(f"{text}, from {len(people)} people who can be shown in every arm."))
    balance = key.groupby(["session", "modality"]).agg(readings=("case", "size"), events=("truth", "sum"))
    book.table(balance.reset_index(), "design", "Readings per session and arm, over all readers")

# %%
if not answers:
    shown = reading.draw_pictures(book.store, drawn, listed, arms)
    kit = reading.write_kit(book.out / "kit", key, shown, design, book.provenance().simulated)
    pages = sorted((kit / "pages").glob("*.html"))
    size = sum(page.stat().st_size for page in pages) / 1e6
    display(Markdown(f"{len(pages)} reading pages in `kit/pages/`, {size:.0f} MB together."))

# %% [markdown]
# ## The answers
# Every file is checked against the key, and all faults are named at once. Simulated readers have the accuracy per arm
# that is planted in them; they stand for nobody.

# %%
folder = Path(answers) if answers else book.out / "simulated_answers"
found = None
if not answers and simulate_readers:
    reading_answers.simulate_answers(folder, key, reading_answers.SKILL, seed, washout_days)
if answers or simulate_readers:
    given = reading_answers.read_answers(book.study.root / folder)
    model, why = reading_analysis.model_or_reason(book.study, cohort, endpoint, arm, given["record"])
    found = reading_analysis.analyse(given, model, book.study.protocol.statistics.level)
    lines = [f"**{found.source}**", why, *reading_answers.deviations(given, washout_days)]
    display(Markdown("\n\n".join(line for line in lines if line)))

# %% [markdown]
# ## Discrimination
# Obuchowski-Rockette analysis of AUC: readers and cases are both random, so that a finding speaks for other readers
# and other patients. Differences between arms carry Holm's p values.

# %%
if found:
    book.table(found.modalities, "auc", f"{found.label}mean AUC per arm")
    book.table(found.differences, "differences", f"{found.label}differences in AUC between arms")
    book.table(found.by_reader, "auc_by_reader", f"{found.label}AUC per reader")
    title = f"{found.label}AUC"
    book.figure(
        pictures.reader_auc(found.modalities, found.by_reader, found.model.get("auc"), title), "auc", found.cases
    )

# %% [markdown]
# ## Decisions, agreement, time
# Accuracy by level of the readers beside the model alone on the same cases, at the threshold chosen at home. Intervals
# let all answers to one case depend on each other.

# %%
if found:
    book.table(found.accuracy, "accuracy", f"{found.label}accuracy by level, and its difference to the model alone")
    book.table(found.agreement, "agreement", f"{found.label}Fleiss' kappa of the decisions")
    book.table(found.times, "times", f"{found.label}seconds per case")
    title = f"{found.label}accuracy"
    book.figure(pictures.reader_accuracy(found.accuracy, found.model.get("accuracy"), title), "accuracy", found.cases)
    book.figure(pictures.reader_times(given, f"{found.label}time per case"), "times", found.cases)
    book.results(reading_analysis.tidy(found, cohort, endpoint), "readers")

# %% [markdown]
# ## What was planted
# The analysis is right when the planted values lie within the intervals above, as often as intervals promise.

# %%
if found and not answers:
    book.table(reading_analysis.planted(found), "planted", f"{found.label}planted skill and what the analysis found")
