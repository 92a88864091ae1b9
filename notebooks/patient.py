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
# # One patient
#
# **Question.** What do the study's models say of the heart behind one ECG, and may this ECG be used at all?
#
# **Inputs.** `file`, any supported ECG file; else `record`, a record of `store/<cohort>/` (empty: the first test
# record). The weights of the study; at an external site its calibration, which `validate` left.
#
# **Outputs.** `page.html`, which works without network, and `page.pdf`, one A3 sheet with the ECG true to scale. They
# name nobody. Research use only.

# %% tags=["parameters"]
cohort = "ukb"
record = ""
file = ""

# %%
import html

from IPython.display import display

from cardionets import page, patient, patient_pdf
from cardionets.patient_drivers import drivers
from cardionets.patient_page import TITLE, render
from cardionets.workbook import Workbook

book = Workbook("patient", cohort)
study = book.study

# %% [markdown]
# ## Read it
# A file is read with the centre's declarations (`ecg` in `cohorts.yaml`) where it does not speak for itself.
# Age, sex, height and weight are added here by hand: `patient.Person(age=61, sex="F", height_cm=165, weight_kg=70)`.

# %%
if file:
    person = patient.Person()
    found = patient.of_file(study, study.path(file), book.settings.ecg, person)
else:
    found = patient.of_record(study, cohort, record)
print("refused: " + ", ".join(found.reasons) if found.reasons else "passed every gate")

# %% [markdown]
# ## What the models say
# Nothing is predicted for an ECG that a gate refused.

# %%
said = None if found.reasons else patient.answer(study, found, cohort)
drawn = {} if said is None else patient.cines(study, found)
why = None if said is None else drivers(study, found)
text = render(study, found, said, drawn, why)
page.write(book.out / "page.html", text)
patient_pdf.write(book.out / "page.pdf", study, found, said, drawn, why)
frame = f'<iframe title="{TITLE}" srcdoc="{html.escape(text)}" width="100%" height="1400"></iframe>'
display({"text/html": frame, "text/plain": TITLE}, raw=True)
