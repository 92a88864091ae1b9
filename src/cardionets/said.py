"""What passes from the process with the networks to the one that writes the page; it imports nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Said:
    """Phenotypes in their units and released disease probabilities, those that the weights estimate, by name.

    ``arm`` says the phenotypes; ``disease_arms`` names the arm behind each disease.
    """

    arm: str
    disease_arms: dict[str, str]
    phenotypes: dict[str, float]
    diseases: dict[str, float]
    simulated: bool
