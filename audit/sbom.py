"""A software bill of materials of an image (CycloneDX 1.6): Debian's packages and Python's, as they lie in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cyclonedx.factory.license import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from audit.docker import DockerError, within

DEBIAN = ("dpkg-query", "--show", "--showformat", "${Package}\t${Version}\t${Architecture}\n")
PYTHON = """
import importlib.metadata
for each in importlib.metadata.distributions():
    data = each.metadata
    print(data["Name"], each.version, data.get("License-Expression", ""), sep="\\t")
"""


def of_image(name: str, known: dict[str, Any]) -> str:
    """The document, checked against its schema. Raises `DockerError`, `ValueError` where it does not match."""
    bom = Bom()
    bom.metadata.component = Component(
        name=name, version=known["Id"], type=ComponentType.CONTAINER, bom_ref=known["Id"]
    )
    for component in (*debian(name), *python(name)):
        bom.components.add(component)
    bom.register_dependency(bom.metadata.component, bom.components)
    text: str = JsonV1Dot6(bom).output_as_string(indent=2)
    wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if wrong is not None:
        raise ValueError(f"{name}: {wrong}")
    return text


def debian(image: str) -> Iterator[Component]:
    """What dpkg has installed. Raises `DockerError`."""
    for line in within(image, *DEBIAN).splitlines():
        name, version, architecture = line.split("\t")
        purl = PackageURL("deb", "debian", name, version, {"arch": architecture})
        yield Component(name=name, version=version, type=ComponentType.LIBRARY, purl=purl, bom_ref=str(purl))


def python(image: str) -> Iterator[Component]:
    """What the image's own Python can import; nothing where it has none."""
    try:
        lines = within(image, "python3", "-c", PYTHON).splitlines()
    except DockerError:
        return
    for line in sorted(set(lines)):
        name, version, license_ = line.split("\t")
        purl = PackageURL("pypi", None, name.lower().replace("_", "-"), version)
        licenses = [LicenseFactory().make_from_string(license_)] if license_ else []
        yield Component(
            name=name, version=version, type=ComponentType.LIBRARY, purl=purl, bom_ref=str(purl), licenses=licenses
        )
