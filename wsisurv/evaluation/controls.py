"""What the clinic knows without a model; the mathematics is in ``survival.covariates``, since training may use it."""

from wsisurv.survival.covariates import Column, CovariateModel, fit_covariates

__all__ = ["Column", "CovariateModel", "fit_covariates"]
