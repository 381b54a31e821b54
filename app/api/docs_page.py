"""The API's documentation at /docs, from this server alone: operators' networks often reach no CDN."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

from app.api.security_headers import page_policy

DOCS_PATH = "/docs"
_ASSETS_PATH = f"{DOCS_PATH}/assets"


def mount_docs(api: FastAPI) -> None:
    """Serve Swagger UI and its files."""
    with as_file(files("fastapi_swagger") / "resources") as folder:
        assets = Path(folder)
    page = get_swagger_ui_html(
        openapi_url=str(api.openapi_url),
        title=f"{api.title} API",
        swagger_js_url=f"{_ASSETS_PATH}/swagger-ui-bundle.js",
        swagger_css_url=f"{_ASSETS_PATH}/swagger-ui.css",
        swagger_favicon_url=f"{_ASSETS_PATH}/favicon-32x32.png",
    )
    html = bytes(page.body).decode()
    headers = {"Content-Security-Policy": page_policy(html)}

    @api.get(DOCS_PATH, include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(html, headers=headers)

    api.mount(_ASSETS_PATH, StaticFiles(directory=assets), name="docs assets")
