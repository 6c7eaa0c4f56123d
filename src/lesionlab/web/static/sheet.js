// The printable sheet: one image and its answer, filled in whenever the browser prints.

import {
  malignancyWords,
  patientWords,
  pointWords,
  qualityWords,
  setWords,
  shows,
  sizeWords,
  verdict,
} from "./answers.js";
import { state } from "./entries.js";
import { at, locale, named, percent, plain, t } from "./text.js";

const LONGER = 1400; // pixels on the longer side of the printed image

function element(tag, text = "", className = "") {
  const made = document.createElement(tag);
  made.textContent = plain(text);
  if (className) made.className = className;
  return made;
}

/** Names and values, one pair to a line. */
function facts(pairs) {
  const list = element("dl");
  for (const [name, value] of pairs) list.append(element("dt", name), element("dd", value));
  return list;
}

/** Fill the sheet with the chosen image, or with nothing: then the page prints as it is. */
function fill() {
  const entry = state.chosen;
  const ready = entry?.state === "answered";
  document.body.classList.toggle("sheet", ready);
  at("sheet").replaceChildren(...(ready ? parts(entry) : []));
}

function parts(entry) {
  const { model } = entry.answer;
  const when = new Intl.DateTimeFormat(locale(), { dateStyle: "long", timeStyle: "short" });
  const about = facts([
    [t("sheet.image"), [entry.name, sizeWords(entry)].filter(Boolean).join(", ")],
    ...patientWords(entry),
    [t("sheet.date"), when.format(entry.time)],
    [t("sheet.server"), location.host],
    [t("sheet.model"), `${model.name} ${model.version}`],
    [t("sheet.fingerprint"), model.fingerprint],
  ]);
  const top = element("div", "", "sheet-top");
  top.append(...(entry.showable ? [picture()] : []), about);
  const { title, words, promise } = verdict(entry);
  const said = element("section", "", "sheet-verdict");
  said.append(element("h2", title), ...[words, ...promise].map((each) => element("p", each)));
  if (entry.drawn) said.append(element("p", t("samples.drawn")));
  return [
    element("h1", t("sheet.title")),
    element("p", t("notice"), "sheet-notice"),
    top,
    said,
    ...(shows(entry) && entry.result.reason !== "unlike" ? figures(entry) : []),
  ];
}

/** The image as it is shown, without map and zoom; drawn, since printing waits for no loading. */
function picture() {
  const shown = at("picture");
  const scale = Math.min(1, LONGER / Math.max(shown.naturalWidth, shown.naturalHeight));
  const canvas = Object.assign(element("canvas"), {
    width: Math.round(shown.naturalWidth * scale),
    height: Math.round(shown.naturalHeight * scale),
  });
  canvas.getContext("2d").drawImage(shown, 0, 0, canvas.width, canvas.height);
  return canvas;
}

function figures({ result, answer }) {
  const table = element("table");
  const head = element("tr");
  head.append(
    element("th", t("sheet.class")),
    element("th", t("sheet.probability")),
    element("th"),
  );
  table.append(head, ...result.classes.map((each) => row(result, each, answer.referral)));
  const lines = [
    ...malignancyWords(result, answer.referral),
    setWords(result, answer.coverage),
    qualityWords(result),
  ];
  return [table, ...lines.filter(Boolean).map((each) => element("p", each))];
}

function row(result, each, referral) {
  const made = element("tr");
  const name = element("td", named("class", each.name));
  for (const point of pointWords(result, each.label, referral))
    name.append(element("small", point));
  const bar = Object.assign(element("progress"), { max: 1, value: each.probability });
  bar.setAttribute("aria-label", named("class", each.name));
  const cell = element("td");
  cell.append(bar);
  made.append(name, element("td", percent(each.probability)), cell);
  return made;
}

export function listenToPrinter() {
  window.addEventListener("beforeprint", fill);
  window.addEventListener("afterprint", () => at("sheet").replaceChildren());
  at("print").addEventListener("click", () => window.print());
}
