"""Entry points of the large models: each makes what `rewander play --model NAME` serves, from settings in words."""

from typing import Any

from .assemble import assemble
from .settings import parse_settings


def framepack_f1(**spoken: str) -> Any:
    """Raises SettingsError, MissingWeightsError, WrongWeightsError, DoesNotFitError, and others that are ValueErrors.

    So do all of these; each message says what to do.
    """
    return assemble("framepack-f1", parse_settings(spoken))


def framepack_i2v(**spoken: str) -> Any:
    return assemble("framepack-i2v", parse_settings(spoken))


def wan(**spoken: str) -> Any:
    return assemble("wan", parse_settings(spoken))


def wan_14b(**spoken: str) -> Any:
    return assemble("wan-14b", parse_settings(spoken))


def helios(**spoken: str) -> Any:
    return assemble("helios", parse_settings(spoken))
