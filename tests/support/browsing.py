"""What the tests of the page that `whence serve` opens do in a browser."""

from __future__ import annotations

import os
import re

from playwright.sync_api import Page, expect

from traced_world import PROMPT

expect.set_options(timeout=20_000)  # the first verdict of an index takes seconds on a busy machine
DESKTOP, PHONE = (1280, 900), (375, 812)
SHOTS = os.environ.get("WHENCE_SCREENSHOTS")
"""A folder to leave pictures of the views in, for people to look at."""


def picture(page: Page, name: str) -> None:
    """A picture of the whole page, where they are wanted."""
    if SHOTS:
        page.screenshot(path=f"{SHOTS}/{name}.png", full_page=True)


def asked(page: Page, prompt: str = PROMPT) -> None:
    """Asks the model, and waits for its answer."""
    page.get_by_label("Prompt", exact=True).fill(prompt)
    page.keyboard.press("Enter")
    expect(page.get_by_role("listbox")).to_be_visible()


def ranked(page: Page) -> None:
    """Asks for the rows behind the answer, and waits for them."""
    page.get_by_role("button", name=re.compile("^Find the rows behind")).click()
    expect(page).to_have_url(re.compile("#/query/[0-9a-f]{16}$"))
