"""The image of the functions that need ChromaDB or pyarrow: its repository, and the build that fills it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pulumi
import pulumi_docker_build as docker_build
from pulumi_aws import ecr

from infra.config import CompactionConfig
from infra.config_values import Architecture
from infra.iam_policies import document
from infra.names import StackNames
from infra.old_versions import KEPT

ROOT = Path(__file__).parent.parent
DOCKERFILE = ROOT / "infra" / "Dockerfile"
FILES = ("pyproject.toml", "uv.lock", "infra/Dockerfile", "infra/install_image_packages", "infra/uv_requirement.txt")
PACKAGES = ("chromadb_compaction", "tasks")
LEFT_OUT = ("chromadb_compaction/cli", "chromadb_compaction/local")

PLATFORM: dict[Architecture, docker_build.Platform] = {
    "arm64": docker_build.Platform.LINUX_ARM64,
    "x86_64": docker_build.Platform.LINUX_AMD64,
}

# A function fails once its image is gone (https://docs.aws.amazon.com/lambda/latest/dg/invocation-images.html). Each
# deployment pushes at most one image, so the kept versions of the functions use none older than this.
IMAGES_KEPT = 3 * KEPT
TAG_DIGITS = 16


class FunctionImage(pulumi.ComponentResource):
    """The stack's repository, and in it one image for each content of the source files.

    `uri` names the image by its digest.
    """

    def __init__(
        self, names: StackNames, config: CompactionConfig, *, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("chromadb:compute:FunctionImage", "chromadb-image", opts=opts)
        child = pulumi.ResourceOptions(parent=self)
        repository = ecr.Repository(
            "chromadb-image-repository",
            name=names.image_repository,
            image_tag_mutability="IMMUTABLE",
            # `pulumi destroy` removes the images too: they can be built again.
            force_delete=True,
            image_scanning_configuration=ecr.RepositoryImageScanningConfigurationArgs(scan_on_push=True),
            opts=child,
        )
        access = ecr.RepositoryPolicy(
            "chromadb-image-repository-policy",
            repository=repository.name,
            policy=json.dumps(pulled_by_lambda(names)),
            opts=child,
        )
        ecr.LifecyclePolicy(
            "chromadb-image-repository-lifecycle",
            repository=repository.name,
            policy=json.dumps(lifecycle()),
            opts=child,
        )
        token = ecr.get_authorization_token_output(registry_id=repository.registry_id)
        base_image = config.base_image or ""
        image = docker_build.Image(
            "chromadb-image",
            # From the folder of Pulumi.yaml: an absolute path would differ between machines, and build the image again.
            context=docker_build.BuildContextArgs(location=".."),
            dockerfile=docker_build.DockerfileArgs(location=DOCKERFILE.name),
            build_args={"BASE_IMAGE": base_image},
            platforms=[PLATFORM[config.architecture]],
            tags=[pulumi.Output.concat(repository.repository_url, ":", tag(config.architecture, base_image))],
            push=True,
            registries=[
                docker_build.RegistryArgs(
                    address=repository.repository_url, username=token.user_name, password=token.password
                )
            ],
            # The pushed image outlives its resource, because published versions of functions may use it.
            opts=pulumi.ResourceOptions(parent=self, depends_on=[access], retain_on_delete=True),
        )
        self.uri = pulumi.Output.concat(repository.repository_url, "@", image.digest)
        self.register_outputs({"uri": self.uri})


def pulled_by_lambda(names: StackNames) -> dict[str, object]:
    """Return the repository's policy: Lambda may pull images for functions of this account and region.

    Lambda would add it by itself, and Pulumi would then remove it.
    """
    functions = names.arn("lambda", "function:*")
    statement = {
        "Sid": "LambdaPullsImages",
        "Effect": "Allow",
        "Principal": {"Service": "lambda.amazonaws.com"},
        "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
        "Condition": {"StringLike": {"aws:sourceArn": functions}},
    }
    return document([statement])


def lifecycle() -> dict[str, object]:
    """Return the repository's lifecycle policy, which keeps the newest images."""
    newest = {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": IMAGES_KEPT}
    rule = {"rulePriority": 1, "description": "the newest images", "selection": newest, "action": {"type": "expire"}}
    return {"rules": [rule]}


def tag(architecture: Architecture, base_image: str) -> str:
    """Return the tag for the present content of the image's sources. Tags are immutable, so each content has its own.

    A tag from the commit would fail for changes that are not committed. The provider builds again if a file's mode has
    changed, so the tag depends on the modes too.
    """
    content = hashlib.sha256(base_image.encode())
    for file in sources():
        content.update(f"\0{file.relative_to(ROOT).as_posix()}\0{file.stat().st_mode:o}\0".encode())
        content.update(file.read_bytes())
    return f"{architecture}-{content.hexdigest()[:TAG_DIGITS]}"


def sources() -> Iterator[Path]:
    """Yield the files that the build reads, in a fixed order. infra/Dockerfile.dockerignore leaves out all others."""
    yield from (ROOT / name for name in FILES)
    left_out = [ROOT / name for name in LEFT_OUT]
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*")):
            skipped = "__pycache__" in file.parts or any(file.is_relative_to(folder) for folder in left_out)
            if file.is_file() and not skipped:
                yield file
