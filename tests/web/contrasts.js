() => {
  const numbers = (colour) => {
    const n = colour.match(/[\d.]+/g).map(Number);
    return n.length < 4 ? [...n, 1] : n;
  };
  const over = (top, low) =>
    low.map((each, i) => (i < 3 ? top[i] * top[3] + each * (1 - top[3]) : 1));
  const behind = (e) => {
    const layers = [];
    for (let at = e; at; at = at.parentElement) {
      layers.push(numbers(getComputedStyle(at).backgroundColor));
      if (layers.at(-1)[3] === 1) break;
    }
    return layers.reverse().reduce((low, top) => over(top, low), [255, 255, 255, 1]);
  };
  const light = (c) =>
    c
      .slice(0, 3)
      .map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
      .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ratio = (one, two) => {
    const [a, b] = [light(one), light(two)].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement;
    if (
      !walker.currentNode.data.trim() ||
      !e.getClientRects().length ||
      e.closest(".unseen, .skip, template, script, noscript")
    )
      continue;
    if (e.tagName === "OPTION") continue;
    found.push([
      "text",
      walker.currentNode.data.trim().slice(0, 40),
      ratio(over(numbers(getComputedStyle(e).color), behind(e)), behind(e)),
    ]);
  }
  for (const e of document.querySelectorAll(
    "button:not(.plain):not(.item):not(:disabled), input[type=number], select:not(.plain)",
  )) {
    if (!e.getClientRects().length) continue;
    const edge = numbers(getComputedStyle(e).borderTopColor);
    found.push([
      "edge",
      e.id || e.textContent,
      Math.max(ratio(edge, behind(e.parentElement)), ratio(behind(e), behind(e.parentElement))),
    ]);
  }
  return found;
};
