// Words and numbers in the reader's language. A language is one JSON file of flat keys; a text may
// hold {values} and terms, as "[[coverage]]" or "[[coverage|cobertura]]", which are explained on
// hover and on tap.

export const LANGUAGES = { en: "English", de: "Deutsch", es: "Español", fr: "Français" };

const NBSP = "\u00a0";
let texts = {};
let termValues = {}; // what the explanations of terms need of the model

/** @param {string} id */
export const at = (id) => document.getElementById(id);
export const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
export const language = () => document.documentElement.lang;
/** The browser's own variety of the language, for numbers and dates. */
export const locale = () =>
  navigator.languages.find((each) => each.slice(0, 2) === language()) ?? language();

/** A setting of this browser; some browsers refuse to keep any. */
export function setting(name, value) {
  try {
    if (value) localStorage.setItem(`lesionlab-${name}`, value);
    return localStorage.getItem(`lesionlab-${name}`);
  } catch {
    return null;
  }
}

/** The language that was chosen here before, else the first of the browser's that there is. */
export function wishedLanguage() {
  const wishes = [setting("language"), ...navigator.languages].map((each) =>
    (each ?? "").slice(0, 2).toLowerCase(),
  );
  return wishes.find((each) => each in LANGUAGES) ?? "en";
}

/** Load a language and put its words into the page's fixed parts. */
export async function speak(code) {
  const response = await fetch(`static/${code}.json`);
  if (!response.ok) throw new Error(`static/${code}.json: ${response.status}`);
  texts = await response.json();
  document.documentElement.lang = code;
  document.title = t("title");
  for (const element of document.querySelectorAll("[data-text]"))
    write(element, t(element.dataset.text));
  for (const element of document.querySelectorAll("[data-label]"))
    element.setAttribute("aria-label", t(element.dataset.label));
  for (const element of document.querySelectorAll("[data-title]"))
    element.title = t(element.dataset.title);
}

/** A text with its values; one that has a plural takes the form that goes with `count`. */
export function t(key, values = {}) {
  const found = texts[key] ?? key;
  const text =
    typeof found === "string"
      ? found
      : (found[new Intl.PluralRules(language()).select(values.count)] ?? found.other);
  return text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

export const has = (key) => key in texts;

/** What a class, a sex or a site is called; one without a translation keeps its own name. */
export const named = (kind, name) => texts[`${kind}.${name}`] ?? capital(name);

export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/**
 * A class's name within a sentence: without what it stands for in brackets. Codes as "BCC"
 * keep their capital, German nouns as well, adjectives before them not.
 */
export function inSentence(name) {
  const full = named("class", name).replace(/ \(.*\)$/, "");
  const word = language() === "de" ? /^\p{Lu}\p{Ll}+ \p{Lu}/u : /^\p{Lu}[\p{Ll} ]/u;
  const lowers = word.test(full);
  return lowers ? full.charAt(0).toLowerCase() + full.slice(1) : full;
}

/** "a, b or c". */
export const either = (names) => joined(names, "disjunction");
/** "a, b and c". */
export const both = (names) => joined(names, "conjunction");

function joined(names, type) {
  const variety = language() === "en" ? "en-GB" : language(); // no comma before the last "or"
  return new Intl.ListFormat(variety, { type }).format(names);
}

export const number = (value, digits = 1) =>
  new Intl.NumberFormat(locale(), { maximumFractionDigits: digits }).format(value);

/** A probability in words that never promise certainty: "61 %", "< 1 %", "> 99 %". */
export function percent(value, digits = 0) {
  const least = 10 ** -digits;
  const shown = 100 * value;
  if (shown < least) return `<${NBSP}${number(least)}${NBSP}%`;
  if (shown >= 100 - least / 2) return `>${NBSP}${number(100 - least)}${NBSP}%`;
  return `${number(shown, digits)}${NBSP}%`;
}

// ---- terms -----------------------------------------------------------------------------------

const TERM = /\[\[(\w+)(?:\|([^\]]+))?\]\]/;

/** A text without the marks of its terms. */
export const plain = (text) => text.replace(new RegExp(TERM, "g"), (_, key, words) => words ?? key);

/** Put a text into an element, its terms as what can be pressed; an unchanged one keeps them and the focus. */
export function write(element, text) {
  if (element.dataset.written === text) return;
  element.dataset.written = text;
  element.replaceChildren(
    ...text.split(/(\[\[[^\]]+\]\])/).map((part) => {
      const found = TERM.exec(part);
      return found ? term(found[1], found[2] ?? found[1]) : part;
    }),
  );
}

function term(key, words) {
  const found = document.createElement("span"); // a button would not break across lines
  Object.assign(found, { className: "term", textContent: words, tabIndex: 0, role: "button" });
  found.dataset.term = key;
  found.setAttribute("aria-expanded", "false");
  return found;
}

export function setTermValues(values) {
  termValues = values;
}

let explained = null; // the term whose explanation is open
let pinned = false; // it was tapped: it stays until the next tap

function explain(button) {
  hideTip();
  const tip = at("tip");
  explained = button;
  tip.textContent = t(`term.${button.dataset.term}`, termValues);
  tip.hidden = false;
  button.setAttribute("aria-expanded", "true");
  button.setAttribute("aria-describedby", "tip");
  placeTip();
}

function placeTip() {
  if (!explained) return;
  const tip = at("tip");
  const [box, own] = [explained.getBoundingClientRect(), tip.getBoundingClientRect()];
  const below = box.bottom + own.height + 12 < window.innerHeight - 60;
  tip.style.left = `${clamp(box.left, 12, window.innerWidth - own.width - 12)}px`;
  tip.style.top = `${below ? box.bottom + 8 : Math.max(8, box.top - own.height - 8)}px`;
}

function hideTip() {
  at("tip").hidden = true;
  explained?.setAttribute("aria-expanded", "false");
  explained?.removeAttribute("aria-describedby");
  explained = null;
  pinned = false;
}

const termOf = (event) => event.target.closest?.(".term");

/** Explain terms on hover, on tap and from the keyboard, until Escape or the next tap. */
export function explainTerms() {
  document.addEventListener("click", (event) => {
    const button = termOf(event);
    if (!button) return event.target.closest?.("#tip") ? null : hideTip();
    event.preventDefault(); // within a label or a summary it would do more
    if (explained === button && pinned) return hideTip();
    explain(button);
    pinned = true;
  });
  document.addEventListener("pointerover", (event) => {
    const button = termOf(event);
    if (button && event.pointerType === "mouse" && explained !== button) explain(button);
  });
  document.addEventListener("pointerout", (event) => {
    const stays = pinned || event.relatedTarget?.closest?.("#tip, .term");
    if (explained && event.pointerType === "mouse" && !stays) hideTip();
  });
  document.addEventListener("keydown", (event) => {
    if (termOf(event) && (event.key === "Enter" || event.key === " ")) event.target.click();
    else if (event.key === "Escape" && explained) hideTip();
    else return;
    event.preventDefault();
  });
  window.addEventListener("scroll", placeTip, { passive: true });
}
