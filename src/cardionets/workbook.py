"""What every notebook shares: the study's settings, its output folder, and one way to publish a figure or a table.

Under the pipeline the folder is ``reports/<cohort>/<stage>``; a notebook that somebody opens writes to
``scratch/<cohort>/<stage>`` instead, so that exploring never disturbs a result.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from IPython.display import HTML, Image, display
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from cardionets import figures, tables
from cardionets.config import Study
from cardionets.run import OUT_VARIABLE, STUDY


@dataclass
class Workbook:
    """Settings and output folder of one stage of one cohort (or of the study as a whole)."""

    stage: str
    cohort: str = STUDY
    study: Study = field(default_factory=Study)

    @property
    def out(self) -> Path:
        """Where figures and tables go."""
        given = os.environ.get(OUT_VARIABLE)
        return Path(given) if given else self.study.path("scratch", self.cohort, self.stage)
