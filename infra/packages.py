"""The packages that must exist before a deployment: the zip's directory, and what builds the image."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from infra.config import NAMESPACE, CompactionConfig, ConfigurationRefused
from infra.config_values import Architecture

MACHINE: dict[Architecture, str] = {"arm64": "aarch64", "x86_64": "x86_64"}
"""The name of each architecture in the names of compiled files."""
DOCKER_SECONDS = 30


def check_packages(config: CompactionConfig) -> None:
    """Raise ConfigurationRefused, which says what to run, if the zip or the image cannot be made."""
    _check_zip(config.package_dir, config.architecture)
    if config.base_image:
        _check_docker()


def _check_zip(directory: Path, architecture: Architecture) -> None:
    build = f"ARCHITECTURE={architecture} infra/build_zip"
    if not (directory / "tasks").is_dir():
        raise ConfigurationRefused(f"{NAMESPACE}:packageDir = {str(directory)!r} is not built; run: {build}")
    others = (machine for name, machine in MACHINE.items() if name != architecture)
    foreign = [file for machine in others for file in directory.glob(f"*/*{machine}*.so")]
    if foreign:
        raise ConfigurationRefused(
            f"{NAMESPACE}:packageDir = {str(directory)!r} is built for another processor than {NAMESPACE}:architecture"
            f" = {architecture!r}: it contains {foreign[0].name}; run: {build}"
        )


def _check_docker() -> None:
    program = shutil.which("docker")
    asked = f"building the image needs docker; start it, or set {NAMESPACE}:imageUri instead of {NAMESPACE}:baseImage"
    if program is None:
        raise ConfigurationRefused(f"docker is not installed; {asked}")
    command = [program, "version", "--format", "{{.Server.Version}}"]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=DOCKER_SECONDS, check=False)  # noqa: S603 - fixed arguments
    except subprocess.TimeoutExpired as error:
        raise ConfigurationRefused(f"docker does not answer; {asked}") from error
    if ran.returncode:
        raise ConfigurationRefused(f"docker does not run ({ran.stderr.strip()}); {asked}")
