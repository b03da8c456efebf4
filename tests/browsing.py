"""Checks of web pages, as JavaScript that runs in them."""

from __future__ import annotations

# WCAG 2.1 requires a contrast ratio of 4.5 between a text and its background.
POOR_CONTRAST = """() => {
  const channels = (color) => color.match(/[\\d.]+/g).map(Number);
  const luminance = (color) => {
    const [red, green, blue] = color.map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const behind = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.push(channels(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((under, [red, green, blue, alpha = 1]) =>
      [red, green, blue].map((value, at) => value * alpha + under[at] * (1 - alpha)), [255, 255, 255]);
  };
  const poor = [];
  for (const element of document.querySelectorAll("body *")) {
    const text = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
    if (!text || !element.checkVisibility() || element.closest(".skip, .hidden")) continue;
    const [one, other] = [luminance(channels(getComputedStyle(element).color).slice(0, 3)), luminance(behind(element))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < 4.5) poor.push([element.textContent.trim().slice(0, 30), ratio]);
  }
  return poor;
}"""

# Elements that a screen reader has no name for.
NAMELESS = """() => [...document.querySelectorAll("button, input, select, textarea, a, iframe, progress")]
  .filter((one) => !(one.labels?.length || one.textContent.trim() || one.ariaLabel || one.title))
  .map((one) => one.outerHTML)"""
