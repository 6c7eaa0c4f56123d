// The page as it is drawn from the entries, again after every change.

import {
  askedWords, malignancyWords, mapWords, pointWords, qualityWords, setWords, shows, similarWords,
  sizeWords, verdict,
} from "./answers.js"; // prettier-ignore
import { FIELDS, isDone, isMemory, pump, state } from "./entries.js";
import { drawMap, seen, showAll } from "./picture.js";
import { GONE } from "./server.js";
import { at, clamp, named, number, percent, plain, t, write } from "./text.js";

/** The lesion first: the map is off until asked for. */
const view = { map: false, opacity: 50 };

/** Say something to screen readers, once. */
export function announce(text) {
  at("live").textContent = plain(text);
}

let alarm = null; // the failure that stands at the top, in whatever language

export function raiseAlarm(failure) {
  alarm = failure;
  const { title, words, again: mayHelp } = failure;
  at("alarm-again").hidden = !mayHelp;
  at("alarm-title").textContent = title;
  at("alarm-words").textContent = words;
  at("alarm").hidden = false;
}

export function fillSelect(select, options) {
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
}

/** What figures and map were last built from: renders in between leave them, and the focus, alone. */
const drawn = { figures: null, map: null, maps: null };

export function render() {
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
export function showLesion() {
  view.map = false;
  showAll();
}

export function choose(entry) {
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
  const goals = {
    ArrowDown: on,
    ArrowRight: on,
    ArrowUp: back,
    ArrowLeft: back,
    Home: 0,
    End: last,
  };
  const goal = goals[event.key];
  if (goal === undefined) return;
  event.preventDefault();
  const next = state.entries[clamp(goal, 0, last)];
  choose(next);
  next.item.querySelector("button").focus();
}

export function step(by) {
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
export function shapeFrame() {
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
  at("verdict-asked").textContent = askedWords(entry, state.model?.fields ?? []);
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
  at("malignancy").replaceChildren(...malignancyWords(result, answer.referral).map(lineOf));
  write(at("set"), setWords(result, answer.coverage));
  at("classes").replaceChildren(...result.classes.map((each) => classRow(entry, each)));
  write(at("promise"), t("classes.promise", { count: Math.round(100 * answer.coverage) }));
  renderCases(result);
}

/** Known cases like this one, and whether they say the same as the model. */
function renderCases({ similar }) {
  at("similar").hidden = !similar;
  if (!similar) return;
  at("similar").dataset.agree = similar.agree;
  at("similar-words").textContent = similarWords(similar);
  at("cases").replaceChildren(...similar.cases.map(caseOf));
}

function caseOf(each) {
  const item = document.createElement("li");
  if (each.picture) {
    const picture = Object.assign(new Image(), { alt: "" });
    picture.src = `data:image/jpeg;base64,${each.picture}`;
    item.append(picture);
  }
  const lines = [
    ["b", named("class", each.name)],
    ["span", each.confirmed && named("confirmed", each.confirmed)],
    ["span", t("similar.distance", { value: number(each.distance, 2) })],
  ];
  for (const [tag, text] of lines)
    if (text) item.append(Object.assign(document.createElement(tag), { textContent: text }));
  return item;
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
  row
    .querySelector(".points")
    .replaceChildren(...pointWords(result, each.label, referral).map(lineOf));
  return row;
}

export function renderMap(entry) {
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

export function toggleMap() {
  if (at("map-toggle").hidden) return;
  view.map = !view.map;
  render();
  if (view.map) announce(at("map-words").textContent);
}

export function setOpacity() {
  view.opacity = Number(at("opacity").value);
  at("opacity-words").textContent = percent(view.opacity / 100);
  at("opacity").setAttribute("aria-valuetext", t("map.percent", { value: view.opacity }));
  at("map").style.opacity = String(view.opacity / 100);
}

/** Draw everything anew, in another language for one. */
export function redraw() {
  Object.assign(drawn, { figures: null, map: null, maps: null });
  if (!at("alarm").hidden) raiseAlarm(alarm);
  render();
}
