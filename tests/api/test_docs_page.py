"""The page at /docs: served from here alone, under a policy that runs nothing else, and shown by a real browser."""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
import tempfile
from base64 import b64encode
from pathlib import Path

import httpx
import pytest

from tests.api.openapi import operations
from tests.support.server import Server
from tests.support.service import Service

pytestmark = pytest.mark.xdist_group("edge")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
    *("--enable-logging=stderr", "--virtual-time-budget=20000", "--window-size=1400,2400"),
)


async def _page(gate: Service) -> httpx.Response:
    answer = await gate.get(None, "/docs")
    assert answer.status_code == 200
    return answer


def _directives(answer: httpx.Response) -> dict[str, list[str]]:
    policy = answer.headers["content-security-policy"]
    return {name: sources for name, *sources in (part.split() for part in policy.split(";"))}


async def test_scripts_run_from_here_or_by_their_hash(gate: Service) -> None:
    answer = await _page(gate)
    allowed = _directives(answer)["script-src"]
    inline = re.findall(r"<script>(.*?)</script>", answer.text, re.DOTALL)
    hashes = [f"'sha256-{b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in inline]
    assert inline
    assert allowed == ["'self'", *hashes]
    assert "onload=" not in answer.text
    assert _directives(answer)["default-src"] == ["'none'"]
    assert _directives(answer)["connect-src"] == ["'self'"]


async def test_everything_that_the_page_names_is_served_here(gate: Service) -> None:
    answer = await _page(gate)
    named = re.findall(r"(?:src|href)=\"([^\"]+)\"", answer.text)
    assert len(named) >= 3
    assert not re.search(r"https?://", answer.text)
    kinds = {".js": "javascript", ".css": "text/css", ".png": "image/png"}
    for path in named:
        asset = await gate.get(None, path)
        assert asset.status_code == 200, path
        assert kinds[Path(path).suffix] in asset.headers["content-type"]
        assert asset.headers["x-content-type-options"] == "nosniff"
    assert "url: '/openapi.json'" in answer.text
    assert (await gate.get(None, "/openapi.json")).headers["content-type"] == "application/json"


@pytest.mark.parametrize("path", ["../docs_page.py", "..%2f..%2fpyproject.toml", "%2e%2e/METADATA", "nothing.js"])
async def test_nothing_else_is_served_beside_the_assets(gate: Service, path: str) -> None:
    assert (await gate.get(None, f"/docs/assets/{path}")).status_code == 404


async def _browse(url: str) -> tuple[str, str]:
    """The document that a browser has made of the page, and what it wrote to its console."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory() as profile:
        process = await asyncio.create_subprocess_exec(
            *(CHROMIUM, *_QUIET, f"--user-data-dir={profile}", "--dump-dom", url),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            shown, console = await asyncio.wait_for(process.communicate(), 60)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    return shown.decode(), console.decode(errors="replace")


@pytest.mark.skipif(CHROMIUM is None, reason="no browser is installed")
async def test_a_browser_shows_every_operation_and_complains_of_nothing(edge_server: Server) -> None:
    shown, console = await _browse(f"{edge_server.base_url}/docs")
    said = [line for line in console.splitlines() if "CONSOLE" in line]
    assert not [line for line in said if re.search("Content Security Policy|Refused|Error|Failed", line)], said
    assert shown.count('class="opblock opblock-') == len(operations())
    for _, path, _ in operations():
        assert f'data-path="{path}"' in shown
    assert 'class="btn authorize unlocked"' in shown
    assert "Channel Gate" in shown
