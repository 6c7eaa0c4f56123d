// The page of the server. Images go to the server that this page came from and nowhere else.
//
// entries.js holds the images and asks about them, answers.js puts answers into words, render.js
// draws the page from both; here what the reader does is passed on.

import { spoken, verdict, worthWords } from "./answers.js";
import { listenToCropper, openCrop } from "./crop.js";
import {
  again, allAgain, events, fail, FIELDS, isDone, isMemory, pump, remember, remove, removeAll, state,
} from "./entries.js"; // prettier-ignore
import { listenToIntake, offerSamples } from "./intake.js";
import { drawRamp, listenToPicture } from "./picture.js";
import {
  announce, choose, fillSelect, raiseAlarm, redraw, render, renderMap, setOpacity, shapeFrame,
  showLesion, step, toggleMap,
} from "./render.js"; // prettier-ignore
import { access, call, Failure, GONE } from "./server.js";
import { listenToPrinter } from "./sheet.js";
import { download, table } from "./table.js";
import {
  at, either, explainTerms, inSentence, LANGUAGES, named, setTermValues, setting, speak, t,
  wishedLanguage, write,
} from "./text.js"; // prettier-ignore

// ---- the server ------------------------------------------------------------------------------

/** Ask what the model is; until that is known, no image is sent. */
async function meet() {
  at("alarm").hidden = true;
  try {
    state.model = await call("v1/model");
  } catch (fault) {
    if (fault.status === 401) askForKey();
    else raiseAlarm(fault);
    return;
  }
  introduce(state.model);
  render();
  pump();
}

/** Fill in what depends on the model alone. */
function introduce(model) {
  const names = [`${model.name} ${model.version}`, model.precision, model.licence];
  write(
    at("about"),
    [
      t("about.model", { name: names.filter(Boolean).join(" · ") }),
      t("about.fingerprint", { value: model.fingerprint }),
    ].join(" · "),
  );
  const malignant = model.classes.filter((each) => each.malignant);
  setTermValues({ classes: either(malignant.map((each) => inSentence(each.name))) });
  tellWhatIsKept(model);
  at("drift").hidden = !model.drift?.drifted;
  at("drift").textContent = t("drift.words", { count: model.drift?.images ?? 0 });
  const worth = worthWords(model);
  write(at("before-worth"), worth ? `${t("field.optional")} ${worth}` : t("before.worth"));
  write(at("patient-worth"), worth);
  at("before").hidden = !model.fields.length;
  for (const prefix of ["", "before-"]) {
    for (const field of FIELDS)
      at(prefix + field).parentElement.hidden = !model.fields.includes(field);
    for (const [field, values] of [
      ["sex", model.sexes],
      ["site", model.sites],
    ]) {
      const select = at(prefix + field);
      const value = select.value;
      const options = values.map((each) => [each, named(field, each)]);
      fillSelect(select, [["", t("field.none")], ...options]);
      select.value = value;
    }
  }
}

function tellWhatIsKept(model) {
  const values = { server: location.host, count: model?.audit_days };
  at("keeps").textContent = t(values.count ? "intake.kept_audit" : "intake.kept", values);
}

Object.assign(events, {
  change: render,
  added(count) {
    emptyForm();
    showLesion();
    render();
    if (at("detail").getBoundingClientRect().top < 0) window.scrollTo(0, 0);
    announce(t("list.added", { count }));
  },
  answered(entry) {
    at("alarm").hidden = true;
    if (entry === state.chosen) announce(spoken(entry));
    else if (state.entries.every(isDone)) announce(t("list.done", { count: state.entries.length }));
  },
  failed(entry, alarming) {
    if (alarming) raiseAlarm(GONE);
    if (entry === state.chosen)
      announce(`${entry.name}. ${entry.error.title}. ${entry.error.words}`);
  },
  postponed(failure, entry) {
    at("alarm").hidden = true; // it answers, if only that it is busy
    announce(`${failure.title}. ${verdict(entry).words}`);
  },
  keyNeeded: askForKey,
});

// ---- what the reader does --------------------------------------------------------------------

function removeChosen() {
  const { name } = state.chosen;
  remove(state.chosen);
  announce(t("list.removed", { name }));
  (state.chosen ? at("detail-title") : at("choose")).focus();
}

/** What was told of one patient must not go along with the images of the next. */
function emptyForm() {
  at("before-form").reset();
  for (const field of FIELDS) state.before[field] = "";
}

function clearAll() {
  removeAll();
  at("alarm").hidden = Boolean(state.model); // what failed is gone
  emptyForm();
  announce(t("list.cleared"));
  at("choose").focus();
}

function exportTable() {
  download(table(state.entries, state.model), "lesionlab-answers.csv");
  announce(t("list.exported", { count: state.entries.length }));
}

/** Take what was typed about a patient into `patient`; whether that is new. */
function takeField(prefix, field, fault, patient) {
  const input = at(prefix + field);
  const wrong = field === "age" && !input.validity.valid;
  at(fault).textContent = wrong ? t("field.age_fault") : "";
  if (wrong || patient[field] === input.value) return false;
  patient[field] = input.value;
  return true;
}

function sharePatient() {
  const { age, sex } = state.chosen.patient;
  for (const entry of state.entries) {
    if (isMemory(entry) || (entry.patient.age === age && entry.patient.sex === sex)) continue;
    Object.assign(entry.patient, { age, sex });
    again(entry);
  }
  announce(t("patient.shared"));
}

function reveal() {
  const entry = state.chosen;
  if (!entry || at("reveal").open === entry.revealed || entry.result?.reason !== "unlike") return;
  entry.revealed = at("reveal").open;
  render();
}

/** M shows and hides the map, wherever nothing is typed. */
function pressKey(event) {
  const typing = event.target.closest?.("input, select, textarea");
  const plainKey = !event.ctrlKey && !event.metaKey && !event.altKey;
  if (event.key.toLowerCase() !== "m" || typing || !plainKey || at("cropper").open) return;
  if (state.chosen) toggleMap();
}

function askForKey() {
  if (at("asking-key").open) return;
  at("key-fault").textContent = access.key ? t("key.unknown") : "";
  access.key = "";
  at("key").value = "";
  at("asking-key").returnValue = "cancel";
  state.paused = true;
  at("asking-key").showModal();
  at("key").focus();
}

/** Go on with the key, or say what is missing. */
function keyGiven() {
  const given = at("key").value.trim();
  at("key").value = "";
  state.paused = false;
  access.key = at("asking-key").returnValue === "use" ? given.replace(/[^\x21-\x7e]/g, "?") : ""; // others cannot be sent
  if (access.key) return state.model ? pump() : meet();
  const missing = new Failure(401, { status: 401 });
  for (const entry of state.entries) if (entry.state === "waiting") fail(entry, missing);
  if (!state.model) raiseAlarm(missing);
  render();
}

// ---- theme and language ----------------------------------------------------------------------

const isDark = () =>
  (document.documentElement.dataset.theme ??
    (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";

function switchTheme() {
  const theme = isDark() ? "light" : "dark";
  setting("theme", theme);
  setTheme(theme);
}

function paint(theme) {
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
}

function setTheme(theme) {
  paint(theme);
  at("theme-words").textContent = t(isDark() ? "nav.light" : "nav.dark");
}

/** Draw everything in a language. */
async function useLanguage(code) {
  await speak(code);
  at("language").value = code;
  at("board").setAttribute("aria-roledescription", t("crop.role"));
  setTheme(setting("theme"));
  setOpacity();
  offerSamples();
  tellWhatIsKept(state.model);
  if (at("before-fault").textContent) at("before-fault").textContent = t("field.age_fault");
  if (state.model) introduce(state.model);
  redraw();
}

async function switchLanguage() {
  setting("language", at("language").value);
  try {
    await useLanguage(at("language").value);
  } catch {
    raiseAlarm(GONE);
  }
}

// ---- start -----------------------------------------------------------------------------------

function listen() {
  const on = (id, event, action) => at(id).addEventListener(event, action);
  document.addEventListener("keydown", pressKey);
  on("alarm-again", "click", () => {
    at("alarm").hidden = true;
    if (state.model) allAgain();
    else meet();
  });
  on("export", "click", exportTable);
  on("clear", "click", clearAll);
  on("previous", "click", () => step(-1));
  on("next", "click", () => step(1));
  on("remove", "click", removeChosen);
  on("picture", "load", shapeFrame);
  on("again", "click", () => again(state.chosen));
  on("reveal", "toggle", reveal);
  on("map-toggle", "click", toggleMap);
  on("opacity", "input", setOpacity);
  on("map-class", "change", () => {
    state.chosen.mapOf = at("map-class").value;
    renderMap(state.chosen);
    announce(at("map-words").textContent);
  });
  for (const field of FIELDS) {
    on(field, "change", () => {
      if (takeField("", field, "age-fault", state.chosen.patient)) again(state.chosen);
    });
    // at every key: a file may be dropped while the field still has the focus
    on(`before-${field}`, "input", () => takeField("before-", field, "before-fault", state.before));
  }
  on("share", "click", sharePatient);
  for (const form of ["patient", "before-form"])
    on(form, "submit", (event) => event.preventDefault());
  on("crop", "click", openCrop);
  on("crop-hint", "click", openCrop);
  on("asking-key", "close", keyGiven);
  on("theme", "click", switchTheme);
  on("language", "change", switchLanguage);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => setTheme(null));
  explainTerms();
  listenToIntake();
  listenToPicture();
  listenToCropper(announce);
  listenToPrinter();
}

paint(setting("theme")); // before any text comes: no flash of the other theme
listen(); // first of all: a file dropped on a page that does not listen would take its place
fillSelect(at("language"), Object.entries(LANGUAGES));
drawRamp();
remember();
try {
  await useLanguage(wishedLanguage());
} catch (fault) {
  document.body.textContent = "The server does not answer. Reload this page."; // no texts, no language
  throw fault;
}
meet();
