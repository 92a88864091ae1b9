"""The study's settings: ``params.yaml``, ``presets/<preset>.yaml`` and ``cohorts.yaml``, checked all at once.

Every block is a frozen pydantic model that refuses unknown keys: a typo is an error that names file, field and remedy.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cardionets import diseases, phenotypes
from cardionets.errors import StudyError as StudyError
from cardionets.files import find_root

BEFORE_S, AFTER_S = 0.28, 0.52  # what the median beat covers, in seconds around the R peak
RANGES = {"age": (0, 120, "years"), "height_cm": (40, 230, "centimetres"), "weight_kg": (2, 350, "kilograms")}
STUDY = "study"  # in place of a cohort's name: the study as a whole
OUT_VARIABLE = "CARDIONETS_OUT"  # environment: where the runner wants a notebook's figures and tables


class Settings(BaseModel):
    """Base of every settings block: immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class StudyRoles(Settings):
    """Which cohorts supply what: ECG-CMR pairs, and ECG-only screening labels."""

    paired: str
    screening: str


class EcgProtocol(Settings):
    """Filtering of every ECG before it is stored."""

    band_hz: tuple[float, float]
    mains_hz: float


class QualityGates(Settings):
    """Limits beyond which a record is excluded, with a reason that reaches the flow diagram."""

    min_seconds: float = Field(gt=0)
    max_abs_uv: float = Field(gt=0)
    min_lead_std_uv: float = Field(gt=0)
    max_flat_fraction: float = Field(gt=0, le=1)
    max_identity_error: float = Field(gt=0)
    rate_bpm: tuple[float, float]


class SplitProtocol(Settings):
    """Person-level split by salted hash; the three fractions add up to 1."""

    salt: str
    train: float = Field(gt=0, lt=1)
    val: float = Field(gt=0, lt=1)
    test: float = Field(gt=0, lt=1)

    @model_validator(mode="after")
    def _adds_up(self) -> SplitProtocol:
        if abs(self.train + self.val + self.test - 1) > 1e-9:
            raise ValueError("train + val + test must add up to 1")
        return self


class Endpoints(Settings):
    """What is predicted and reported."""

    diseases: tuple[str, ...]
    headline_phenotypes: tuple[str, ...]
    label_fractions: tuple[float, ...]
    window: Literal["any", "prevalent", "incident"]

    @model_validator(mode="after")
    def _known(self) -> Endpoints:
        unknown = [d for d in self.diseases if d not in diseases.NAMES]
        unknown += [p for p in self.headline_phenotypes if p not in phenotypes.NAMES]
        if unknown:
            known = "cardionets.diseases and cardionets.phenotypes"
            raise ValueError(f"unknown endpoints {unknown}; known ones are in {known}")
        return self


class Statistics(Settings):
    """Interval level, bootstrap replicates, operating point and smallest cell that may be shown."""

    level: float = Field(gt=0.5, lt=1)
    bootstrap: int = Field(ge=100)
    specificity: float = Field(gt=0, lt=1)
    minimum_cell: int = Field(ge=1)


class Protocol(Settings):
    """``params.yaml``: the frozen protocol of the study."""

    preset: str
    seed: int
    study: StudyRoles
    ecg: EcgProtocol
    quality: QualityGates
    split: SplitProtocol
    endpoints: Endpoints
    statistics: Statistics


class Grid(Settings):
    """Sizes of the harmonised store, fixed for every cohort of a study.

    ECG: ``rate`` Hz for ``seconds`` s. CMR: ``frames`` x ``size`` x ``size`` pixels of ``spacing_mm``.
    """

    rate: int = Field(gt=0)
    seconds: int = Field(gt=0)
    frames: int = Field(gt=1)
    size: int = Field(gt=7)
    spacing_mm: float = Field(gt=0)

    @property
    def samples(self) -> int:
        """Samples per lead, T."""
        return self.rate * self.seconds

    @property
    def beat_samples(self) -> int:
        """Samples of a median beat, B."""
        return round((BEFORE_S + AFTER_S) * self.rate)


class CohortEcg(Settings):
    """What a centre declares about its ECG files where the files do not say it themselves."""

    unit: Literal["uV", "mV", "V"] | None = None
    rate: float | None = Field(default=None, gt=0)
    leads: tuple[str, ...] | None = None
    gain_factor: float = Field(default=1.0, gt=0)


class Cohort(Settings):
    """One centre: where its files lie, how they are laid out, and its role in the study."""

    label: str
    path: Path
    depends: str
    layout: Literal["ukb", "mimic", "manifest", "wfdb"]
    role: Literal["development", "external"]
    lends_training: bool = False
    simulated: bool = False
    manifest: str = "manifest.csv"
    columns: dict[str, str] = Field(default_factory=dict)
    codes: str | None = None
    exclude: str | None = None
    include: tuple[str, ...] = ()
    mask_labels: dict[int, int] = Field(default_factory=dict)
    ecg: CohortEcg = CohortEcg()

    @property
    def is_split(self) -> bool:
        """Whether people are divided into training, validation and test; otherwise everybody is tested."""
        return self.role == "development" or self.lends_training


class _Cohorts(Settings):
    cohorts: dict[str, Cohort]


Block = TypeVar("Block", bound=BaseModel)


def _load_yaml(path: Path) -> dict[str, Any]:
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StudyError(f"{path.name}: the file is missing; restore it with `git checkout {path.name}`.") from None
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        where = f" at line {place.line + 1}" if place else ""
        raise StudyError(f"{path.name}: not valid YAML{where}; check indentation and colons.") from None
    if not isinstance(loaded, dict):
        raise StudyError(f"{path.name}: expected a mapping of settings, found {type(loaded).__name__}.")
    return loaded


def check(model: type[Block], values: object, source: str) -> Block:
    """Validate ``values`` against ``model``; every fault becomes one line that names file, field and remedy."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise StudyError("\n".join(_sentence(source, fault) for fault in error.errors())) from None


def _sentence(source: str, fault: Any) -> str:
    field = ".".join(str(part) for part in fault["loc"]) or "(whole block)"
    if fault["type"] == "extra_forbidden":
        return f"{source}: {field}: unknown setting; correct the spelling or delete it."
    if fault["type"] == "missing":
        return f"{source}: {field}: required setting is missing; add it."
    return f"{source}: {field}: {fault['msg'][0].lower()}{fault['msg'][1:]} (found {fault['input']!r})."


class Study:
    """All settings of one study rooted at ``root``; paths it hands out are absolute."""

    def __init__(self, root: Path | str | None = None) -> None:
        self.root = find_root(Path(root) if root is not None else None)
        self.protocol = check(Protocol, _load_yaml(self.root / "params.yaml"), "params.yaml")
        self.cohorts = check(_Cohorts, _load_yaml(self.root / "cohorts.yaml"), "cohorts.yaml").cohorts
        for role, name in self.protocol.study:
            if name not in self.cohorts:
                known = ", ".join(self.cohorts)
                raise StudyError(f"params.yaml: study.{role}: cohort {name!r} is not in cohorts.yaml; known: {known}.")

    @cached_property
    def preset(self) -> dict[str, Any]:
        """Raw blocks of ``presets/<preset>.yaml``."""
        path = self.root / "presets" / f"{self.protocol.preset}.yaml"
        if not path.is_file():
            known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml")))
            raise StudyError(f"params.yaml: preset: {self.protocol.preset!r} does not exist; choose one of {known}.")
        return _load_yaml(path)

    def block(self, name: str, model: type[Block]) -> Block:
        """One block of the preset, validated against the settings class that lies beside its model."""
        source = f"presets/{self.protocol.preset}.yaml"
        if name not in self.preset:
            raise StudyError(f"{source}: {name}: required block is missing; copy it from presets/demo.yaml.")
        return check(model, self.preset[name], f"{source}: {name}")

    @cached_property
    def grid(self) -> Grid:
        """Sizes of the store."""
        return self.block("grid", Grid)

    def cohort(self, name: str) -> Cohort:
        """The settings of one cohort, its path made absolute."""
        if name not in self.cohorts:
            raise StudyError(f"cohorts.yaml: cohorts.{name}: no such cohort; known: {', '.join(self.cohorts)}.")
        cohort = self.cohorts[name]
        return cohort.model_copy(update={"path": (self.root / cohort.path).resolve()})

    def path(self, *parts: str) -> Path:
        """A path below the repository root."""
        return self.root.joinpath(*parts)
