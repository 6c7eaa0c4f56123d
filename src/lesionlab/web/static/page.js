// The page of the server. Images go to the server that this page came from and nowhere else.
//
// entries.js holds the images and asks about them, answers.js puts answers into words; here the
// page is drawn from them, and what the reader does is passed on.

import {
  malignancyWords, mapWords, pointWords, qualityWords, setWords, shows, sizeWords, spoken, verdict,
} from "./answers.js"; // prettier-ignore
import { listenToCropper, openCrop } from "./crop.js";
import {
  add, again, allAgain, events, fail, FIELDS, isDone, isMemory, pump, remember, remove, removeAll,
  state,
} from "./entries.js"; // prettier-ignore
import { drawMap, drawRamp, listenToPicture, seen, showAll } from "./picture.js";
import { access, call, Failure, GONE } from "./server.js";
import { listenToPrinter } from "./sheet.js";
import { download, table } from "./table.js";
import {
  at, clamp, either, explainTerms, inSentence, LANGUAGES, named, percent, plain, setTermValues,
  setting, speak, t, wishedLanguage, write,
} from "./text.js"; // prettier-ignore

const SAMPLES = [1, 2, 3, 4, 5, 6].map((count) => `sample-${count}.jpg`);

const view = { map: false, opacity: 50 }; // the lesion first: the map is off until asked for

/** Say something to screen readers, once. */
function announce(text) {
  at("live").textContent = plain(text);
}

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

function raiseAlarm({ title, words, again: mayHelp }) {
  at("alarm-again").hidden = !mayHelp;
  at("alarm-title").textContent = title;
  at("alarm-words").textContent = words;
  at("alarm").hidden = false;
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
  at("before").hidden = !model.fields.length;
  for (const prefix of ["", "before-"]) {
    for (const field of FIELDS)
      at(prefix + field).parentElement.hidden = !model.fields.includes(field);
    for (const [field, values] of [["sex", model.sexes], ["site", model.sites]]) {
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

function fillSelect(select, options) {
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
}

Object.assign(events, {
  change: render,
  added(count) {
    showLesion();
    render();
    if (at("detail").getBoundingClientRect().top < 0) window.scrollTo(0, 0);
    announce(t("list.added", { count }));
  },
  answered(entry) {
    at("alarm").hidden = true;
    if (entry === state.chosen) announce(spoken(entry));
    else if (state.entries.every(isDone))
      announce(t("list.done", { count: state.entries.length }));
  },
  failed(entry, alarming) {
    if (alarming) raiseAlarm(GONE);
    if (entry === state.chosen)
      announce(`${entry.name}. ${entry.error.title}. ${entry.error.words}`);
  },
  postponed: (failure, entry) => announce(`${failure.title}. ${verdict(entry).words}`),
  keyNeeded: askForKey,
});

// ---- drawing the page ------------------------------------------------------------------------

/** What figures and map were last built from: renders in between leave them, and the focus, alone. */
const drawn = { figures: null, map: null, maps: null };

function render() {
  const focused = document.activeElement;
  renderAll();
  const lost = focused !== document.body && (focused.disabled || !focused.getClientRects().length);
  if (lost && state.chosen) at("detail-title").focus({ preventScroll: true });
}

function renderAll() {
  const count = state.entries.length;
  const before = at("main").dataset.images;
  at("main").dataset.images = ["none", "one"][count] ?? "many";
  if (before !== at("main").dataset.images) at("before").open = !count;
  at("work").hidden = !count;
  if (!count) return;
  const done = state.entries.filter(isDone).length;
  at("progress").textContent =
    done < count ? t("list.progress", { done, all: count }) : t("list.count", { count });
  at("export").disabled = !done || !state.model;
  renderList();
  renderDetail(state.chosen);
}

/** Bring the list in line with the entries; items stay, so that the focus does. */
function renderList() {
  const wanted = state.entries.map((entry) => (entry.item ??= newItem(entry)));
  const list = at("items");
  if (
    wanted.length !== list.children.length ||
    wanted.some((item, i) => item !== list.children[i])
  ) {
    list.replaceChildren(...wanted);
  }
  for (const entry of state.entries) renderItem(entry);
}

function newItem(entry) {
  const item = at("item").content.firstElementChild.cloneNode(true);
  const button = item.querySelector("button");
  button.querySelector(".name").textContent = entry.name;
  button.title = entry.name;
  button.addEventListener("click", () => {
    choose(entry);
    at("detail-title").focus({ preventScroll: true });
    if (at("detail").getBoundingClientRect().top > window.innerHeight * 0.6)
      at("detail-title").scrollIntoView();
  });
  button.addEventListener("keydown", (event) => walk(event, entry));
  return item;
}

function renderItem(entry) {
  const button = entry.item.querySelector("button");
  const { look, short } = verdict(entry);
  const first = shows(entry) ? entry.result.classes[0] : null;
  button.dataset.look = look;
  button.querySelector("use").setAttribute("href", `#sign-${look}`);
  if (entry === state.chosen) button.setAttribute("aria-current", "true");
  else button.removeAttribute("aria-current");
  button.querySelector(".first").textContent = short;
  button.querySelector(".second").textContent = first
    ? `${named("class", first.name)} ${percent(first.probability)}`
    : "";
  const thumb = button.querySelector(".thumb");
  if (!entry.showable) thumb.textContent = t("list.no_view");
  else if (entry.thumb && thumb.firstChild !== entry.thumb) thumb.replaceChildren(entry.thumb);
}

/** The lesion itself, all of it and without a map. */
function showLesion() {
  view.map = false;
  showAll();
}

function choose(entry) {
  if (entry !== state.chosen) {
    state.chosen = entry;
    showLesion();
  }
  render();
  entry.item.scrollIntoView({ block: "nearest", inline: "nearest" });
  pump();
}

/** Arrow keys, Home and End go through the list. */
function walk(event, entry) {
  const here = state.entries.indexOf(entry);
  const last = state.entries.length - 1;
  const [back, on] = [here - 1, here + 1];
  const goals = { ArrowDown: on, ArrowRight: on, ArrowUp: back, ArrowLeft: back, Home: 0, End: last };
  const goal = goals[event.key];
  if (goal === undefined) return;
  event.preventDefault();
  const next = state.entries[clamp(goal, 0, last)];
  choose(next);
  next.item.querySelector("button").focus();
}

function step(by) {
  const next = state.entries[state.entries.indexOf(state.chosen) + by];
  if (next) choose(next);
}

function renderDetail(entry) {
  const place = state.entries.indexOf(entry);
  at("detail-title").textContent = entry.name;
  at("place").textContent = t("list.place", { place: place + 1, all: state.entries.length });
  at("previous").disabled = place === 0;
  at("next").disabled = place === state.entries.length - 1;
  renderPicture(entry);
  renderPatient(entry);
  renderVerdict(entry);
  renderFigures(entry);
  renderMap(entry);
}

function renderPicture(entry) {
  const picture = at("picture");
  if (entry.url && picture.src !== entry.url) picture.src = entry.url;
  picture.alt = entry.name;
  picture.hidden = !entry.showable;
  at("no-picture").hidden = entry.showable;
  at("crop").hidden = !entry.showable || isMemory(entry);
  for (const each of ["zoom-in", "zoom-out", "full-open"]) at(each).hidden = !entry.showable;
  at("size").textContent = sizeWords(entry);
}

/** Give the frame the picture's shape, so that a map lies on it and nowhere else. */
function shapeFrame() {
  const { naturalWidth, naturalHeight } = at("picture");
  if (naturalHeight) at("frame").style.setProperty("--ratio", String(naturalWidth / naturalHeight));
  showAll();
}

function renderPatient(entry) {
  const useless = entry.state === "answered" && entry.result.reason === "unreadable";
  at("patient").hidden = useless || !state.model?.fields.length;
  at("patient-hint").textContent = t(isMemory(entry) ? "patient.kept" : "patient.hint");
  for (const field of FIELDS) {
    at(field).disabled = isMemory(entry);
    if (at(field) !== document.activeElement) at(field).value = entry.patient[field];
  }
  if (at("age") !== document.activeElement) at("age-fault").textContent = "";
  const common = ["age", "sex"].filter((field) => state.model?.fields.includes(field));
  at("share").hidden = state.entries.length < 2 || !common.some((field) => entry.patient[field]);
  if (common.length) at("share").textContent = t(`patient.share_${common.join("_")}`);
}

function renderVerdict(entry) {
  const { look, title, words, promise } = verdict(entry);
  at("verdict").dataset.look = look;
  at("sign").setAttribute("href", `#sign-${look}`);
  at("verdict-title").textContent = title;
  write(at("verdict-words"), words);
  write(at("verdict-promise"), promise[0] ?? "");
  write(at("verdict-measured"), promise[1] ?? "");
  at("drawn").hidden = !entry.drawn;
  at("again").hidden = !(entry.state === "failed" && entry.error.again);
  const unlike = entry.state === "answered" && entry.result.reason === "unlike";
  const large =
    entry.state === "failed" && (entry.error.status === 413 || entry.error.status === 0);
  at("crop-hint").hidden = at("crop").hidden || !(unlike || (large && entry.error !== GONE));
  at("print").hidden = entry.state !== "answered";
  at("reveal").hidden = !unlike;
  at("reveal").open = unlike && entry.revealed;
  at("answer").setAttribute("aria-busy", String(["waiting", "asking"].includes(entry.state)));
}

function renderFigures(entry) {
  at("first").hidden = at("figures").hidden = !shows(entry);
  if (!shows(entry) || drawn.figures === entry.result) return;
  drawn.figures = entry.result;
  const { result, answer } = entry;
  const [first] = result.classes;
  at("likeliest-name").textContent = named("class", first.name);
  at("likeliest-value").textContent = percent(first.probability);
  write(at("quality"), qualityWords(result));
  at("malignancy").replaceChildren(...malignancyWords(result).map(lineOf));
  write(at("set"), setWords(result, answer.coverage));
  at("classes").replaceChildren(...result.classes.map((each) => classRow(entry, each)));
  write(at("promise"), t("classes.promise", { count: Math.round(100 * answer.coverage) }));
}

function lineOf(text) {
  const line = document.createElement("li");
  write(line, text);
  return line;
}

function classRow({ result, answer: { referral } }, each) {
  const row = at("class-row").content.firstElementChild.cloneNode(true);
  const bar = row.querySelector("progress");
  const marks = [each.malignant && "malignant", each.in_set && "in_set"].filter(Boolean);
  row.classList.toggle("in-set", each.in_set);
  row.querySelector(".name").textContent = named("class", each.name);
  row.querySelector(".value").textContent = percent(each.probability);
  row.querySelector(".mark").textContent = marks.map((mark) => t(`classes.${mark}`)).join(" · ");
  bar.value = each.probability;
  bar.textContent = percent(each.probability);
  bar.setAttribute("aria-label", named("class", each.name));
  bar.setAttribute("aria-valuetext", percent(each.probability));
  row.querySelector(".points").replaceChildren(...pointWords(result, each.label, referral).map(lineOf));
  return row;
}

function renderMap(entry) {
  const maps = shows(entry) && state.model ? entry.result.maps : [];
  at("map-toggle").hidden = !maps.length;
  at("map-toggle").classList.toggle("strong", view.map);
  at("map-toggle").textContent = t(view.map ? "picture.hide_map" : "picture.show_map");
  at("mapping").hidden = !maps.length || !view.map;
  const map = maps.find((each) => each.label === entry.mapOf) ?? maps[0];
  at("map").hidden = !map || map.blank || !entry.showable || !view.map;
  if (!map) return;
  const mapped = entry.result.classes.filter((each) =>
    maps.some((one) => one.label === each.label),
  );
  if (drawn.maps !== maps)
    fillSelect(
      at("map-class"),
      mapped.map((each) => [each.label, named("class", each.name)]),
    );
  drawn.maps = maps;
  at("map-class").value = map.label;
  if (drawn.map === map) return;
  drawn.map = map;
  const { width, height } = entry.result;
  const { input } = state.model;
  const { name } = mapped.find((each) => each.label === map.label);
  const words = mapWords(map, name, seen(width, height, input));
  write(at("map-words"), words);
  at("map").setAttribute("aria-label", plain(words));
  if (!map.blank) drawMap(at("map"), map, width, height, input);
}

function toggleMap() {
  if (at("map-toggle").hidden) return;
  view.map = !view.map;
  render();
  announce(view.map ? at("map-words").textContent : t("picture.hide_map"));
}

function setOpacity() {
  view.opacity = Number(at("opacity").value);
  at("opacity-words").textContent = percent(view.opacity / 100);
  at("opacity").setAttribute("aria-valuetext", t("map.percent", { value: view.opacity }));
  at("map").style.opacity = String(view.opacity / 100);
}

// ---- what the reader does --------------------------------------------------------------------

/** Files that were dropped or pasted; folders are named, not taken. */
function filesOf(transfer) {
  const folders = [...(transfer.items ?? [])].filter(
    (each) => each.webkitGetAsEntry?.()?.isDirectory,
  );
  if (!folders.length) return [...transfer.files];
  raiseAlarm(new Failure("folder", { again: false }));
  return [...transfer.items]
    .filter((each) => each.kind === "file" && !folders.includes(each))
    .map((each) => each.getAsFile());
}

function paste(event) {
  const files = filesOf(event.clipboardData ?? { files: [] });
  if (!files.length || document.querySelector("dialog[open]")) return;
  event.preventDefault();
  const renamed = (file) => new File([file], `pasted-${state.count + 1}.png`, { type: file.type });
  add(files.map((file) => (file.name === "image.png" ? renamed(file) : file)));
}

function drop(event) {
  event.preventDefault();
  document.body.classList.remove("dropping");
  if (!document.querySelector("dialog[open]")) add(filesOf(event.dataTransfer));
}

function dragOver(event) {
  event.preventDefault();
  document.body.classList.add("dropping");
}

function dragLeave(event) {
  if (!event.relatedTarget) document.body.classList.remove("dropping");
}

/** Take what a file input holds, and empty it so that the same file can be chosen again. */
function takeInput(event) {
  add(event.target.files);
  event.target.value = "";
}

/** The drawn lesions as buttons; each goes the way of every other image. */
function offerSamples() {
  at("samples-list").replaceChildren(
    ...SAMPLES.map((name, i) => {
      const item = document.createElement("li");
      const button = Object.assign(document.createElement("button"), { type: "button" });
      const alt = t("samples.one", { count: i + 1 });
      button.className = "sample";
      button.append(Object.assign(new Image(), { src: `static/${name}`, alt, loading: "lazy" }));
      button.addEventListener("click", () => takeSample(name));
      item.append(button);
      return item;
    }),
  );
}

async function takeSample(name) {
  try {
    const blob = await (await fetch(`static/${name}`)).blob();
    add([new File([blob], name, { type: blob.type })], { drawn: true });
    at("detail-title").focus({ preventScroll: true });
  } catch {
    raiseAlarm(GONE);
  }
}

function removeChosen() {
  const { name } = state.chosen;
  remove(state.chosen);
  announce(t("list.removed", { name }));
  (state.chosen ? at("detail-title") : at("choose")).focus();
}

function clearAll() {
  removeAll();
  at("before-form").reset();
  for (const field of FIELDS) state.before[field] = "";
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

function setTheme(theme) {
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
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
  if (state.model) introduce(state.model);
  Object.assign(drawn, { figures: null, map: null, maps: null });
  render();
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
  // Phones turn HEIC into JPEG unless it is asked for; elsewhere it would not be offered.
  if (!matchMedia("(any-pointer: coarse)").matches) at("choose").accept += ",.heic,.heif";
  on("choose", "change", takeInput);
  on("photo", "change", takeInput);
  document.addEventListener("paste", paste);
  document.addEventListener("drop", drop);
  document.addEventListener("dragover", dragOver);
  document.addEventListener("dragleave", dragLeave);
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
    on(`before-${field}`, "input", () =>
      takeField("before-", field, "before-fault", state.before),
    );
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
  listenToPicture();
  listenToCropper(announce);
  listenToPrinter();
}

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
