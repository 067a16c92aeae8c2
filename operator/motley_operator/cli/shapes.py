"""The shape of Models that give none: in a cluster an inspection Job reads config.json, here only a local file can."""

import json
from collections.abc import Iterable
from pathlib import Path

from motley_operator.api import Model, Shape
from motley_operator.cli.validate import Given
from motley_operator.cli.yamltree import Mistake
from motley_operator.shapes import shape_of


def shaped(given: Iterable[Given]) -> tuple[list[Given], dict[str, Mistake]]:
    """The objects, Models with a shape in `status` as after an inspection; by key those where that is not possible."""
    objects: list[Given] = []
    shapeless: dict[str, Mistake] = {}
    for one in given:
        if one.kind is not Model or "shape" in one.value["spec"] or "shape" in one.value.get("status", {}):
            objects.append(one)
            continue
        try:
            shape = _local_shape(one.value["spec"]["source"]["uri"])
        except (OSError, ValueError) as error:
            message = f"is missing and cannot be read here: {error}; add it, or let a cluster inspect the model"
            shapeless[one.key] = one.document.mistake(("spec", "shape"), message)
            objects.append(one)
            continue
        status = {**one.value.get("status", {}), "shape": shape.to_json()}
        objects.append(Given(one.kind, one.key, {**one.value, "status": status}, one.document))
    return objects, shapeless


def _local_shape(uri: str) -> Shape:
    """Raises OSError or ValueError with what is in the way."""
    if not uri.startswith("file://"):
        raise ValueError(f"{uri} is not a local folder")
    return shape_in(Path(uri.removeprefix("file://")) / "config.json")


def shape_in(path: Path) -> Shape:
    """Of a Hugging Face config.json; raises OSError or ValueError with what is in the way."""
    try:
        config = json.loads(path.read_text())
    except OSError as error:
        raise OSError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON") from error
    return shape_of(config)
