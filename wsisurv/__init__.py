"""wsisurv: from raw whole-slide images and pathology reports to survival risk scores."""

__version__ = "0.1.0.dev0"
