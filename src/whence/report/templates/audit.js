"use strict";
(() => {
  const groups = [...document.querySelectorAll(".group[id]")];
  const theme = document.getElementById("theme"), prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme ?? (prefersDark.matches ? "dark" : "light")) === "dark";
  const label = () => { theme.textContent = isDark() ? "Light" : "Dark"; theme.setAttribute("aria-label", `Switch to ${isDark() ? "light" : "dark"} colours`); };
  theme.hidden = false;
  theme.addEventListener("click", () => { document.documentElement.dataset.theme = isDark() ? "light" : "dark"; label(); });
  prefersDark.addEventListener("change", label);
  label();

  // A link to a group opens it.
  const open = () => {
    const group = location.hash.startsWith("#group-") && document.getElementById(location.hash.slice(1));
    if (group) { group.open = true; group.scrollIntoView(); }
  };
  window.addEventListener("hashchange", open);
  open();

  const tools = document.querySelector(".tools");
  if (tools) {
    tools.hidden = false;
    const search = tools.querySelector(".filter"), all = tools.querySelector(".toggle-all"), count = tools.querySelector(".count");
    const texts = groups.map((group) => group.textContent.toLowerCase());
    search.addEventListener("input", () => {
      const wanted = search.value.trim().toLowerCase();
      let shown = 0;
      groups.forEach((group, i) => { group.hidden = wanted !== "" && !texts[i].includes(wanted); if (!group.hidden) shown += 1; });
      count.textContent = wanted === "" ? "" : `${shown} of ${groups.length} groups`;
    });
    all.addEventListener("click", () => {
      const opening = groups.some((group) => !group.open);
      for (const group of groups) group.open = opening;
      all.textContent = opening ? "Close all" : "Open all";
    });
  }

  // Print has everything: every card open; afterwards they are as they were.
  let before = null;
  window.addEventListener("beforeprint", () => {
    if (before) return;
    before = [...document.querySelectorAll("main details")].map((one) => [one, one.open]);
    for (const [one] of before) one.open = true;
  });
  window.addEventListener("afterprint", () => {
    for (const [one, was] of before ?? []) one.open = was;
    before = null;
  });
})();
