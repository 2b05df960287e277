"""Alertmanager's configuration, rendered and checked by `amtool` in the image, without and with an address."""

from __future__ import annotations

import subprocess

import pytest

pytestmark = pytest.mark.stack


def render(image: str, url: str) -> subprocess.CompletedProcess[str]:
    """The entrypoint with this address: writes the configuration, checks it, and stops there."""
    command = "/etc/chorus/alertmanager.sh --check && cat /tmp/alertmanager.yml && ls -l /tmp"
    return subprocess.run(
        ["docker", "run", "--rm", "--network", "none", "--read-only", "--tmpfs", "/tmp:mode=1777", "--cap-drop", "ALL",
         "-e", f"ALERT_WEBHOOK_URL={url}", image, "bash", "-c", command],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_without_an_address_alerts_go_to_nobody(image: str) -> None:
    """They are shown, and no receiver is configured."""
    done = render(image, "")
    assert done.returncode == 0, done.stderr
    assert "receiver: nobody" in done.stdout
    assert "webhook_configs" not in done.stdout


def test_the_address_is_in_a_file_that_its_user_alone_reads(image: str) -> None:
    """The configuration names the file, and Alertmanager shows the configuration."""
    done = render(image, "https://example.org/hook?key=secret&x='1'")
    assert done.returncode == 0, done.stderr
    assert "receiver: webhook" in done.stdout
    assert "url_file: /tmp/webhook-url" in done.stdout
    assert "secret" not in done.stdout
    (line,) = [line for line in done.stdout.splitlines() if line.endswith("webhook-url")]
    assert line.startswith("-rw------- ")


@pytest.mark.parametrize("url", ["example.org/hook", "https://", "https://a b"])
def test_a_wrong_address_is_refused_by_name(image: str, url: str) -> None:
    """Nothing starts."""
    done = render(image, url)
    assert done.returncode == 78
    assert "ALERT_WEBHOOK_URL" in done.stderr
