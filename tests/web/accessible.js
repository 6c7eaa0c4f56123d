() => {
  const seen = (e) => e.getClientRects().length && getComputedStyle(e).visibility !== "hidden";
  const faults = [];
  const text = (e) => (e?.textContent ?? "").trim();
  for (const e of document.querySelectorAll(
    "button, a[href], input, select, summary, progress, canvas, img",
  )) {
    if (!seen(e) || e.closest("[aria-hidden]")) continue;
    const labelled = (e.getAttribute("aria-labelledby") ?? "")
      .split(" ")
      .map((id) => text(document.getElementById(id)))
      .join("");
    const name =
      e.getAttribute("aria-label") ||
      labelled ||
      e.alt ||
      [...(e.labels ?? [])].map(text).join("") ||
      (e.matches("button, a, summary") ? text(e) || e.querySelector("img")?.alt : "");
    if (!name) faults.push("no name: " + e.outerHTML.slice(0, 80));
  }
  let level = 0;
  for (const e of document.querySelectorAll("h1, h2, h3, h4")) {
    if (!seen(e)) continue;
    const own = Number(e.tagName[1]);
    if (own > level + 1) faults.push(`h${own} after h${level}: ${text(e)}`);
    if (!text(e)) faults.push("empty heading: " + e.outerHTML);
    level = own;
  }
  if (
    document.querySelectorAll("h1").length !== 1 ||
    document.querySelectorAll("main").length !== 1
  )
    faults.push("h1, main");
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  if (new Set(ids).size !== ids.length) faults.push("an id twice");
  for (const attribute of ["aria-labelledby", "aria-describedby", "for"]) {
    for (const e of document.querySelectorAll(`[${attribute}]`)) {
      for (const id of e.getAttribute(attribute).split(" "))
        if (!ids.includes(id)) faults.push(`${attribute} of ${id}`);
    }
  }
  if (document.querySelector("#live").getAttribute("aria-live") !== "polite")
    faults.push("no live region");
  if (document.querySelector("#alarm").getAttribute("role") !== "alert") faults.push("no alert");
  if (!document.documentElement.lang || !document.title) faults.push("no language or title");
  if (document.querySelector('[tabindex]:not([tabindex="0"]):not([tabindex="-1"])'))
    faults.push("tabindex");
  return faults;
};
