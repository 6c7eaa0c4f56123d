// The table of all answers, as CSV.

import { FIELDS } from "./entries.js";

/** A cell of a CSV file that a spreadsheet does not take for a formula. */
function cell(value) {
  const risky = typeof value === "string" && /^[\t\r\n]|^\s*[=+\-@＝＋－＠]/.test(value);
  const text = risky ? `'${value}` : String(value);
  return /[",\r\n;]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** A crop is never called harmless: no figure holds for it. */
const reasonOf = (result, frame) => (frame && !result.refer ? "cropped" : result.reason);

function row(entry, labels, model) {
  const result = entry.state === "answered" ? entry.result : null;
  const frame = entry.crop;
  const name = frame
    ? `${entry.name}#xywh=${frame.x},${frame.y},${frame.width},${frame.height}`
    : entry.name;
  const probabilities = Object.fromEntries(
    (result?.classes ?? []).map((each) => [each.label, each.probability]),
  );
  return [
    name,
    ...FIELDS.map((field) => entry.patient?.[field] ?? ""),
    result?.predicted ?? "",
    ...labels.map((label) => probabilities[label] ?? ""),
    result?.set.join(" ") ?? "",
    result?.malignancy?.probability ?? "",
    result ? result.refer || Boolean(frame) : "",
    result ? reasonOf(result, frame) : entry.state === "failed" ? "failed" : "waiting",
    entry.answer?.model.fingerprint ?? model.fingerprint,
  ];
}

/** @returns {string} with a mark in front that tells spreadsheets that it is UTF-8 */
export function table(entries, model) {
  const labels = model.classes.map((each) => each.label);
  const head = [
    "image",
    ...FIELDS,
    "predicted",
    ...labels.map((label) => `p_${label}`),
    "set",
    "malignancy",
    "refer",
    "reason",
    "model_fingerprint",
  ];
  const rows = [head, ...entries.map((entry) => row(entry, labels, model))];
  return "\ufeff" + rows.map((each) => each.map(cell).join(",") + "\r\n").join("");
}

export function download(text, name) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  Object.assign(document.createElement("a"), { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
