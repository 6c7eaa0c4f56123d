// What an answer says, in the reader's language: from its figures, not from English sentences.

import { FIELDS, state } from "./entries.js";
import {
  both,
  capital,
  either,
  has,
  inSentence,
  language,
  named,
  number,
  percent,
  t,
} from "./text.js";

const NO_RISK = new Set(["", "benign_undecided"]);

/**
 * What to say first about an entry.
 * @returns {{look: string, title: string, words: string, short: string, promise: string[]}} look:
 *     calm, ask, alarm, stop or wait; short: for the list; promise: what stands beside the answer
 */
export function verdict(entry) {
  const says = (look, title, words = "", short = title) => ({
    look,
    title,
    words,
    short,
    promise: [],
  });
  if (entry.state === "failed") {
    const { title, words } = entry.error;
    return says("stop", title, words, t("verdict.failed.short"));
  }
  if (entry.state === "busy")
    return says("wait", t("wait.busy"), t("wait.retry", { count: entry.seconds }));
  if (entry.state === "answered") return answered(entry);
  if (!state.model) return says("wait", t("wait.server"), "", t("wait.waiting"));
  return says("wait", t(entry.result ? "wait.again" : "wait.asking"), "", t("wait.short"));
}

const LOOKS = {
  unreadable: "stop",
  unlike: "stop",
  malignancy_likely: "alarm",
  malignancy_possible: "ask",
  benign_undecided: "calm",
  cropped: "ask",
  none: "calm",
  unstated: "ask",
};

function answered({ result, answer, crop }) {
  const { referral } = answer;
  const found = kindOf(result, referral);
  // What is promised holds for whole images: zoomed in, malignant lesions have passed as benign.
  const kind = crop && LOOKS[found] === "calm" ? "cropped" : found;
  const known = kind in LOOKS;
  const words = known ? t(`verdict.${kind}.words`) : result.reason_text || result.reason;
  return {
    look: LOOKS[kind] ?? "ask",
    title: t(`verdict.${known ? kind : "other"}.title`),
    short: t(`verdict.${known ? kind : "other"}.short`),
    words:
      kind === "unreadable" ? `${words} ${capital(result.error?.message ?? "")}`.trim() : words,
    promise: promise(kind, referral),
  };
}

/** A reason; "nothing suspected" counts only where a risk is stated beside it. */
function kindOf(result, referral) {
  if (!NO_RISK.has(result.reason)) return result.reason;
  if (result.refer || !referral?.limits.length) return "unstated";
  return result.reason || "none";
}

/** What is promised and what was measured, beside every answer that does not refer. */
function promise(kind, referral) {
  if (LOOKS[kind] === "calm")
    return [promiseWords(referral), measuredWords(referral.measured)].filter(Boolean);
  if (kind === "malignancy_possible" && referral?.refers_all)
    return [language() === "en" ? referral.promise : t("promise.refers_all")];
  return kind === "unstated" ? [t("promise.none")] : [];
}

function promiseWords(referral) {
  const stated = referral.limits.filter((each) => has(`promise.${each.name}`));
  const list = stated.map((each) => t(`promise.${each.name}`, { count: number(100 * each.miss) }));
  return list.length ? t("promise.words", { list: both(list) }) : referral.promise;
}

function measuredWords(measured) {
  if (!measured?.malignant || !measured.benign) return "";
  const missed = ["malignant", "melanoma"].filter((each) => measured[each]);
  return t("measured.words", {
    lesions: number(measured.malignant.lesions + measured.benign.lesions),
    list: both(
      missed.map((each) => {
        const { missed: count, low, high } = measured[each];
        return t(`measured.${each}`, hundredths({ count, low, high }));
      }),
    ),
    benign: number(100 * measured.benign.referred),
  });
}

const hundredths = (values) =>
  Object.fromEntries(Object.entries(values).map(([key, each]) => [key, number(100 * each)]));

/** Whether the figures of an entry are shown: there are some, and they are not held back. */
export const shows = (entry) =>
  Boolean(entry.result?.classes.length) &&
  entry.state !== "failed" &&
  (entry.result.reason !== "unlike" || entry.revealed);

/** What the nearest cases say beside the model. */
export const similarWords = (similar) =>
  t(similar.agree ? "similar.agree" : "similar.disagree", {
    name: inSentence(similar.nearest_name),
    share: percent(similar.share),
  });

/** The conformal set in words. */
export function setWords(result, coverage) {
  const level = percent(coverage);
  const names = result.classes.filter((each) => each.in_set).map((each) => inSentence(each.name));
  if (!names.length) return t("set.none", { level });
  if (names.length === result.classes.length) return t("set.all", { level, count: names.length });
  return t("set.some", { level, names: either(names) });
}

/** What age, sex and site are worth to a model; "" where that was not measured. */
export function worthWords({ metadata_worth: worth }) {
  if (worth?.balanced_accuracy.difference.low == null) return "";
  const { known, unknown, difference } = worth.balanced_accuracy;
  const { low, high } = difference;
  const values = { known: known.value, unknown: unknown.value, gain: difference.value, low, high };
  return t("patient.worth", hundredths(values));
}

/** Probabilities of malignancy beside the thresholds from which they refer, melanoma's own last. */
export function malignancyWords(result, referral) {
  return [...limitWords(result), ...melanomaWords(result, referral)];
}

function limitWords(result) {
  return (result.malignancy?.limits ?? [])
    .filter((each) => each.name === "malignancy" || each.name === "melanoma")
    .map((each) =>
      t(each.name === "melanoma" ? "answer.malignancy_melanoma" : "answer.malignancy", {
        value: percent(each.probability, 1),
        threshold: percent(each.threshold, 1),
      }),
    );
}

/** What the threshold that finds most melanomas says by itself. */
function melanomaWords(result, referral) {
  const labels = referral?.limits.find((each) => each.name === "melanoma")?.classes ?? [];
  const points = (result.thresholds ?? [])
    .filter((each) => labels.includes(each.label) && foundBy(each) !== null)
    .sort((one, two) => foundBy(two) - foundBy(one));
  return points.slice(0, 1).map((each) =>
    t(each.reached ? "answer.melanoma_point.refer" : "answer.melanoma_point.leave", {
      count: number(100 * foundBy(each)),
      threshold: percent(each.threshold, 1),
    }),
  );
}

/** How good the model is at the class shown; "" where that was not measured. */
export function qualityWords({ quality }) {
  const [recall, precision] = [quality?.recall?.value, quality?.precision?.value];
  if (recall == null || precision == null) return "";
  const share = 100 * quality.share;
  return t("answer.quality", {
    name: inSentence(quality.name),
    recall: number(100 * recall, 0),
    precision: number(100 * precision, 0),
    share: number(share, share < 10 ? 1 : 0),
  });
}

/** From where a class refers by itself, and its operating points, the one that finds most first. */
export function pointWords(result, label, referral) {
  const refers = referral?.points?.[label];
  const first = refers === undefined ? [] : [t("point.refers", { threshold: percent(refers, 1) })];
  const points = (result.thresholds ?? [])
    .filter((each) => each.label === label)
    .map((each) => ({ ...each, found: foundBy(each) }))
    .sort((one, two) => (two.found ?? 0) - (one.found ?? 0))
    .map(({ reached, threshold, found, text, name }) =>
      found === null
        ? (text ?? name)
        : t(reached ? "point.reached" : "point.below", {
            threshold: percent(threshold, 1),
            count: number(100 * found),
          }),
    );
  return [...first, ...points];
}

/** The share of a class that an operating point finds, 0 to 1; null where that is not known. */
function foundBy(point) {
  const [, level] = /^at_(\d+)_sensitivity\//.exec(point.name) ?? [];
  return point.sensitivity ?? (level ? level / 100 : null);
}

/** Where in the image a map is strongest, in words. */
function placeWords(u, v) {
  const column = u < 1 / 3 ? "left" : u > 2 / 3 ? "right" : "";
  const row = v < 1 / 3 ? "upper" : v > 2 / 3 ? "lower" : "";
  if (row && column) return t(`place.${row}_${column}`);
  return t(`place.${column || { upper: "top", lower: "bottom", "": "centre" }[row]}`);
}

/** @param part of the image that the model sees, in fractions of it */
export function mapWords(map, className, part) {
  const name = inSentence(className);
  if (map.blank) return t("map.blank", { name });
  const peak = map.values.indexOf(Math.max(...map.values));
  const u = part.x + (((peak % map.columns) + 0.5) / map.columns) * part.width;
  const v = part.y + ((Math.floor(peak / map.columns) + 0.5) / map.rows) * part.height;
  return t("map.words", { name, place: placeWords(u, v) });
}

export function sizeWords(entry) {
  const { width, height } = entry.crop ?? entry.natural ?? entry.result ?? {};
  if (!width) return "";
  const by = (size) => `${size.width} × ${size.height}`;
  if (entry.crop) return t("picture.cropped", { width, height, of: by(entry.natural) });
  if (entry.sentSize) return t("picture.smaller", { width, height, sent: by(entry.sentSize) });
  return t("picture.size", { width, height });
}

/** What was told of the patient for this answer, where the model takes any of it. */
export function askedWords(entry, fields) {
  const judged = entry.state === "answered" && !["unlike", "unreadable"].includes(entry.result.reason);
  if (!judged || !fields.length) return "";
  const given = ([, value]) => value !== t("field.none");
  const told = patientWords(entry).filter(given).map((each) => each.join(" "));
  return told.length ? t("answer.asked", { list: told.join(", ") }) : t("answer.asked_nothing");
}

/** What was given of the patient, as pairs of names and values. */
export const patientWords = (entry) =>
  FIELDS.filter((field) => state.model?.fields.includes(field)).map((field) => {
    const value = entry.patient[field];
    return [
      t(`field.${field}`),
      value && field !== "age" ? named(field, value) : value || t("field.none"),
    ];
  });

/** An answer in one breath. */
export function spoken(entry) {
  const { title, words, promise: beside } = verdict(entry);
  const parts = [entry.name + ".", title + ".", words, ...beside];
  if (shows(entry)) {
    const [first] = entry.result.classes;
    const values = { name: inSentence(first.name), value: percent(first.probability) };
    parts.push(t("answer.likeliest_spoken", values));
  }
  return parts.join(" ");
}
