"""The Hypothesis profile of `make soak`; what it changes stands with the properties."""

from hypothesis import settings

settings.register_profile("soak")
