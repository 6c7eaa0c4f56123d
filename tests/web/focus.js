() => {
  const e = document.activeElement;
  const shown = e.matches(".unseen") ? e.parentElement : e;
  const style = getComputedStyle(shown);
  const box = shown.getBoundingClientRect();
  const notice = document.querySelector("#notice").getBoundingClientRect();
  const dialog = Boolean(e.closest("dialog"));
  return {
    id: e.id || e.className || e.tagName,
    outline: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
    visible: box.width > 0 && box.top >= 0 && (dialog || box.top < notice.top),
  };
};
