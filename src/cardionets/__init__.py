"""CardioNets: from a 12-lead ECG to cardiac-MRI phenotypes, disease screening and a moving CMR image."""

__version__ = "0.1.0"
