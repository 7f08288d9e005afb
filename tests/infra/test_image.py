"""The image is built into the stack's own repository, and functions use it by its digest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from infra import ecr_image
from infra.config import ConfigurationRefused, parse_config
from infra.ecr_image import DOCKERFILE, IMAGES_KEPT, sources, tag
from infra.old_versions import KEPT
from infra.packages import check_packages
from tests.infra.declared import BASE_IMAGE, CHECKOUT, DIGEST, IMAGE, Declared, declared

BUILT = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/chromadb-compaction-dev"
IN_IMAGE = ["merge-batch", "compactor", "fold-partitions", "producer", "query"]


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a docker with a running daemon on PATH, in place of any other, and return its file."""
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 28.0.0\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    return program


@pytest.fixture
def stack(docker: Path) -> Declared:
    assert docker.exists()
    return declared(baseImage=BASE_IMAGE)


def one(stack: Declared, kind: str) -> dict[str, Any]:
    return stack.one(kind)


def test_a_stack_with_a_given_image_builds_none() -> None:
    assert not [r for r in declared().resources if r.type.startswith(("aws:ecr", "docker-build"))]


def test_tags_cannot_be_moved_and_every_pushed_image_is_scanned(stack: Declared) -> None:
    repository = one(stack, "Repository")
    assert repository["name"] == "chromadb-compaction-dev"
    assert repository["imageTagMutability"] == "IMMUTABLE"
    assert repository["imageScanningConfiguration"] == {"scanOnPush": True}


def test_the_image_of_a_version_that_is_kept_does_not_expire(stack: Declared) -> None:
    (rule,) = json.loads(one(stack, "LifecyclePolicy")["policy"])["rules"]
    assert rule["selection"] == {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": IMAGES_KEPT}
    assert IMAGES_KEPT > KEPT


def test_only_lambda_for_functions_of_this_account_may_pull(stack: Declared) -> None:
    (statement,) = json.loads(one(stack, "RepositoryPolicy")["policy"])["Statement"]
    assert statement["Principal"] == {"Service": "lambda.amazonaws.com"}
    assert statement["Action"] == ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    assert statement["Condition"] == {
        "StringLike": {"aws:sourceArn": "arn:aws:lambda:eu-west-1:123456789012:function:*"}
    }


def test_the_image_is_built_from_the_base_image_and_pushed_with_a_tag_of_its_content(stack: Declared) -> None:
    image = one(stack, "Image")
    assert image["push"] is True
    assert image["buildArgs"] == {"BASE_IMAGE": BASE_IMAGE}
    assert image["tags"] == [f"{BUILT}:{tag('arm64', BASE_IMAGE)}"]
    project = CHECKOUT / "infra"
    assert (project / "Pulumi.yaml").exists()
    assert (project / image["context"]["location"]).resolve() == CHECKOUT
    assert project / image["dockerfile"]["location"] == DOCKERFILE
    assert image["platforms"] == ["linux/arm64"]


def test_the_image_has_the_architecture_of_the_functions(docker: Path) -> None:
    assert docker.exists()
    stack = declared(baseImage=BASE_IMAGE, architecture="x86_64")
    assert one(stack, "Image")["platforms"] == ["linux/amd64"]
    assert stack.function("query")["architectures"] == ["x86_64"]


@pytest.mark.parametrize("task", IN_IMAGE)
def test_functions_use_the_built_image_by_its_digest(stack: Declared, task: str) -> None:
    assert stack.function(task)["imageUri"] == f"{BUILT}@{DIGEST}"


# The tag.


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the sources, from which tags are computed."""
    root = tmp_path / "copy"
    for file in sources():
        target = root / file.relative_to(CHECKOUT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    monkeypatch.setattr(ecr_image, "ROOT", root)
    return root


def test_the_same_content_has_the_same_tag(copy: Path) -> None:
    assert copy.exists()
    of_the_copy = tag("arm64", BASE_IMAGE)
    ecr_image.ROOT = CHECKOUT
    assert of_the_copy == tag("arm64", BASE_IMAGE)


@pytest.mark.parametrize(
    "file", ["tasks/query.py", "chromadb_compaction/chroma/query.py", "uv.lock", "infra/Dockerfile"]
)
def test_other_content_has_another_tag(copy: Path, file: str) -> None:
    before = tag("arm64", BASE_IMAGE)
    (copy / file).write_bytes((copy / file).read_bytes() + b"\n")
    assert tag("arm64", BASE_IMAGE) != before


def test_a_changed_mode_has_another_tag_because_the_provider_builds_again(copy: Path) -> None:
    before = tag("arm64", BASE_IMAGE)
    (copy / "tasks" / "query.py").chmod(0o600)
    assert tag("arm64", BASE_IMAGE) != before


@pytest.mark.parametrize("file", ["chromadb_compaction/cli/app.py", "tasks/__pycache__/query.pyc", "README.md"])
def test_a_file_that_is_not_in_the_image_does_not_change_the_tag(copy: Path, file: str) -> None:
    before = tag("arm64", BASE_IMAGE)
    (copy / file).parent.mkdir(parents=True, exist_ok=True)
    (copy / file).write_text("changed")
    assert tag("arm64", BASE_IMAGE) == before


def test_another_architecture_or_base_has_another_tag() -> None:
    tags = {tag("arm64", BASE_IMAGE), tag("x86_64", BASE_IMAGE), tag("arm64", BASE_IMAGE.replace("2", "3"))}
    assert len(tags) == 3


def test_the_tag_is_computed_from_every_file_that_the_build_may_read() -> None:
    ignored = DOCKERFILE.with_name("Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert allowed == {*ecr_image.FILES, *ecr_image.PACKAGES} - {"infra/Dockerfile"}
    assert set(ecr_image.LEFT_OUT) < set(ignored)


# What is missing is said before anything is made.


def test_a_missing_zip_is_refused_with_the_command_that_builds_it(tmp_path: Path) -> None:
    config = parse_config({"imageUri": IMAGE, "packageDir": str(tmp_path), "architecture": "x86_64"})
    with pytest.raises(
        ConfigurationRefused, match=r"packageDir = .* is not built; run: ARCHITECTURE=x86_64 infra/build_"
    ):
        check_packages(config)


def test_a_zip_for_another_processor_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    compiled = tmp_path / "pydantic_core" / "_pydantic_core.cpython-312-x86_64-linux-gnu.so"
    compiled.parent.mkdir()
    compiled.touch()
    check_packages(parse_config({"imageUri": IMAGE, "packageDir": str(tmp_path), "architecture": "x86_64"}))
    with pytest.raises(ConfigurationRefused, match=r"another processor than chromadb:architecture = 'arm64'.*x86_64"):
        check_packages(parse_config({"imageUri": IMAGE, "packageDir": str(tmp_path)}))


def test_a_build_without_docker_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationRefused, match="docker is not installed"):
        check_packages(parse_config({"baseImage": BASE_IMAGE, "packageDir": str(CHECKOUT)}))


def test_a_build_without_a_docker_daemon_is_refused(docker: Path) -> None:
    docker.write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
    with pytest.raises(ConfigurationRefused, match=r"docker does not run.*Cannot connect to the Docker daemon"):
        check_packages(parse_config({"baseImage": BASE_IMAGE, "packageDir": str(CHECKOUT)}))
