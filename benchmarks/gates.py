"""What the gates find of the faults planted in the SIMULATED centres, and what they suspect in sound recordings.

`python benchmarks/gates.py [sound]` after `make data`: every faulty recording and `sound` (120) others per centre are
read. Printed is the first reason given, per kind of fault; copies of another person's recording pass here and are
found when a store is assembled.
"""

import sys
from pathlib import Path

import pandas as pd

from cardionets import cohorts, gates
from cardionets.cohorts.ecg_files import read_ecg
from cardionets.config import Cohort, Study
from cardionets.prepare import reason_of

CENTRES = ("mimic", "fahzu", "sahzu", "qph")


def first_reason(study: Study, cohort: Cohort, path: str) -> str:
    """The reason under which `prepare` would count a recording, or "kept"."""
    try:
        found = gates.inspect(read_ecg(cohort.path / path, cohort.ecg), study.protocol.quality, study.grid.seconds)
    except Exception as fault:
        return reason_of(fault)
    return found[0] if found else "kept"


def centre(study: Study, name: str, sound: int) -> pd.DataFrame:
    """One row per recording read: planted fault and first reason."""
    truth = pd.read_parquet(study.path("data", "truth", f"{name}_records.parquet")).astype({"record": str})
    records = cohorts.index(study.cohort(name)).records.merge(truth[["record", "fault"]], on="record")
    records = records[records["excluded"] == ""]
    fine = records["fault"].isin(["", "none"])
    chosen = pd.concat([records[~fine], records[fine].sample(min(sound, int(fine.sum())), random_state=0)])
    reasons = [first_reason(study, study.cohort(name), path) for path in chosen["ecg"]]
    return pd.DataFrame({"planted": chosen["fault"].replace("", "none").to_numpy(), "found": reasons})


if __name__ == "__main__":
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 120
    here = Study(Path(__file__).parents[1])
    table = pd.concat([centre(here, name, wanted) for name in CENTRES])
    print(table.groupby(["planted", "found"]).size().to_string())
