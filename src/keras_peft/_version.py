"""The version of keras-peft, which the package's build reads here too."""

__version__ = "0.1.0"
