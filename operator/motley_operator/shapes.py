"""A model's config.json → the Shape that it declares. Where the config was read is the caller's affair."""

from collections.abc import Mapping
from dataclasses import asdict

from pydantic import ValidationError

from motley_operator.api import Shape
from motley_solver.hardware import shape_of_config


def shape_of(config: object) -> Shape:
    """ValueError says in one line what is in the way, whatever the config holds: it may be a stranger's."""
    if not isinstance(config, Mapping):
        raise ValueError("config.json is not a JSON object")
    try:
        return Shape(**asdict(shape_of_config(config)))
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"config.json: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
