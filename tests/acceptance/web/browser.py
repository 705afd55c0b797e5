"""A real Chromium that notes whatever a page does that it should not."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from playwright.async_api import Browser, BrowserContext, Page, Request, async_playwright

from tests.support.environment import CHROMIUM, SHOTS

_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
TIMEOUT_MS = 60_000.0


def executable() -> str | None:
    """The Chromium there is."""
    return os.environ.get(CHROMIUM) or shutil.which("chromium") or shutil.which("chromium-browser")


@dataclass
class Watched:
    """A page, and what it did that it should not: errors of its console, requests to elsewhere, dialogs."""

    page: Page
    faults: list[str] = field(default_factory=list)

    async def open(self, url: str, *, status: int = 200) -> None:
        """Go to ``url``, and see that it is answered so."""
        answer = await self.page.goto(url)
        assert answer is not None
        assert answer.status == status, await self.page.content()

    async def text(self) -> str:
        """The visible text of the page."""
        return await self.page.inner_text("main")


@dataclass
class Visitor:
    """A Chromium at work."""

    browser: Browser
    contexts: list[BrowserContext] = field(default_factory=list)

    async def page(
        self,
        *,
        viewport: dict[str, int] | None = None,
        scheme: Literal["light", "dark"] = "light",
        origins: frozenset[str],
    ) -> Watched:
        """A new page that may send requests only to ``origins``."""
        size = viewport or DESKTOP
        context = await self.browser.new_context(
            viewport={"width": size["width"], "height": size["height"]},
            color_scheme=scheme,
            java_script_enabled=True,
            device_scale_factor=1,
        )
        context.set_default_timeout(TIMEOUT_MS)
        self.contexts.append(context)
        page = await context.new_page()
        watched = Watched(page)
        faults = watched.faults

        def on_request(url: str) -> None:
            if not url.startswith((*(f"{origin}/" for origin in origins), "data:")):
                faults.append(f"asked {url}")

        def on_failure(request: Request) -> None:
            # A page that is left gives up what it still loads; what its policy blocks has another name.
            if request.failure != "net::ERR_ABORTED":
                faults.append(f"failed: {request.url}: {request.failure}")

        page.on("console", lambda said: faults.append(f"{said.type}: {said.text}"))
        page.on("pageerror", lambda error: faults.append(f"error: {error}"))
        page.on("dialog", lambda dialog: faults.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: on_request(request.url))
        page.on("requestfailed", on_failure)
        return watched

    async def shoot(self, url: str, name: str, *, origins: frozenset[str]) -> None:
        """Pictures of ``url`` as desktops and phones have it, light and dark; only where they are wanted."""
        folder = os.environ.get(SHOTS)
        if not folder:
            return
        schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
        for device, size in (("desktop", DESKTOP), ("phone", PHONE)):
            for scheme in schemes:
                watched = await self.page(viewport=size, scheme=scheme, origins=origins)
                await watched.open(url)
                path = Path(folder) / f"{name}-{device}-{scheme}.png"
                await watched.page.screenshot(path=path, full_page=True)
                await watched.page.close()


@asynccontextmanager
async def chromium() -> AsyncIterator[Visitor]:
    """A Chromium, gone at the end."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable(), args=_ARGUMENTS)
        visitor = Visitor(browser)
        try:
            yield visitor
        finally:
            for context in visitor.contexts:
                await context.close()
            await browser.close()
