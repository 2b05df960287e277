"""`python -m audit FOLDER`: runs every check, and writes the bills of materials into the folder.

Exit status: 0 nothing to put right, 1 findings, 2 the stack can't be looked at. What can't be asked here (PyPI, an
image that has not been built) is told, and is no finding.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from audit import confinement, vulnerabilities
from audit.docker import DockerError, images_here, running, services
from audit.findings import Finding

ROOT = Path(__file__).resolve().parent.parent


def main(folder: Path) -> int:
    """Run; returns the exit status."""
    try:
        findings = [*_vulnerabilities(), *_confinement(), *_bills(folder)]
    except DockerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for finding in findings:
        print(f"FINDING  {finding}")
    print(f"{len(findings)} findings")
    return 1 if findings else 0


def _vulnerabilities() -> Iterable[Finding]:
    for file in sorted((ROOT / "requirements").glob("*.txt")):
        try:
            found, unknown = vulnerabilities.of_requirements(file)
        except vulnerabilities.NotAnswered as why:
            print(f"no answer  from PyPI about known vulnerabilities: {why}")
            return
        print(f"checked    known vulnerabilities of {file.name}: {len(found)}")
        if unknown:
            print(f"no answer  from PyPI about {', '.join(unknown)}")
        yield from found


def _confinement() -> Iterable[Finding]:
    known = services()
    for name, service in known.items():
        yield from confinement.of_service(name, service)
    print(f"checked    {len(known)} services as Compose starts them")
    wanted = {service["image"] for service in known.values()}
    here = images_here(wanted)
    for name, image in here.items():
        yield from confinement.of_image(name, image)
    print(f"checked    {len(here)} images: {', '.join(here)}")
    if missing := wanted - here.keys():
        print(f"not here   {', '.join(sorted(missing))}")
    containers = running()
    for container in containers:
        yield from confinement.of_container(container)
    print(f"checked    {len(containers)} running containers: {', '.join(containers) or 'the stack is not up'}")


def _bills(folder: Path) -> Iterable[Finding]:
    from audit import sbom  # needs what scripts/audit.sh has installed

    folder.mkdir(parents=True, exist_ok=True)
    here = images_here({service["image"] for service in services().values()})
    for name, image in here.items():
        file = folder / f"{name.replace('/', '-').replace(':', '-')}.cdx.json"
        file.write_text(sbom.of_image(name, image), encoding="utf-8")
        print(f"wrote      {file}")
    return ()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
