from pathlib import Path

import pytest

from e2e.cluster import ClusterError, images


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A tree with all that the images are made of."""
    root = tmp_path / "checkout"
    for name in (*images.CODE, *images.REQUIREMENTS):
        path = root / name
        if path.suffix or name.isupper():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{name}\n")
        else:
            (path / "package").mkdir(parents=True)
            (path / "package" / "module.py").write_text("x = 1\n")
    return root


def written(checkout: Path, target: Path) -> str:
    target.mkdir()
    images.write_context(checkout, target)
    return images.content_key(target)


def test_caches_beside_the_code_do_not_change_what_is_built(checkout: Path, tmp_path: Path) -> None:
    before = written(checkout, tmp_path / "one")
    (checkout / "operator" / "package" / "__pycache__").mkdir()
    (checkout / "operator" / "package" / "__pycache__" / "module.pyc").write_text("compiled")
    (checkout / "worker" / ".mypy_cache").mkdir()
    (checkout / "worker" / ".mypy_cache" / "db").write_text("cache")
    assert written(checkout, tmp_path / "two") == before


def test_a_change_of_code_is_a_change_of_the_image(checkout: Path, tmp_path: Path) -> None:
    before = written(checkout, tmp_path / "one")
    (checkout / "worker" / "package" / "module.py").write_text("x = 2\n")
    assert written(checkout, tmp_path / "two") != before


def test_a_file_that_moves_is_a_change_too(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("same")
    before = images.content_key(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert images.content_key(tmp_path) != before


def test_everything_in_the_context_has_one_time_and_can_be_read(checkout: Path, tmp_path: Path) -> None:
    (checkout / "LICENSE").chmod(0o600)
    written(checkout, tmp_path / "context")
    paths = list((tmp_path / "context").rglob("*"))
    assert {path.stat().st_mtime for path in paths} == {images.EPOCH}
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in paths)


def test_a_missing_source_is_named(checkout: Path, tmp_path: Path) -> None:
    (checkout / "e2e" / "requirements" / "router.txt").unlink()
    with pytest.raises(ClusterError, match=r"e2e/requirements/router\.txt is missing"):
        written(checkout, tmp_path / "context")


def test_the_three_recipes_share_the_stage_with_the_code() -> None:
    texts = [(images.RECIPES / f"{name}.Containerfile").read_text() for name in images.PROJECT]
    stages = {text.partition("FROM ${BASE} AS code")[2].partition("\nFROM ")[0] for text in texts}
    assert len(stages) == 1 and "/opt/code" in stages.pop()


def test_no_image_runs_as_root() -> None:
    for recipe in images.RECIPES.glob("*.Containerfile"):
        text = recipe.read_text()
        assert recipe.name == "base.Containerfile" or "\nUSER 65" in text, recipe.name


def test_a_built_image_is_copied_without_a_mount_that_stays() -> None:
    where, _, image = images.stored("localhost/motley-router:dev").partition("]")
    assert where.endswith(":overlay.skip_mount_home=true") and image == "localhost/motley-router:dev"
