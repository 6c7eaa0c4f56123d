// The page of the server. Images go to the server that this page came from and nowhere else.
//
// One entry per image: it waits, is asked about (one request each, two at a time), and is answered
// or fails. `render` draws the page from the entries.

const PARALLEL = 2; // requests at a time
const PATIENCE = 60; // seconds for one answer
const TRIES = 8; // of one image while the server is busy
const SMALLEST = 16; // pixels on a side of a crop
const LOSSLESS = 6e6; // pixels of a crop that go as PNG; larger ones as JPEG

/** @param {string} id */
const at = (id) => document.getElementById(id);
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const small = (text) =>
  /^[A-Z][a-z ]/.test(text) ? text.charAt(0).toLowerCase() + text.slice(1) : text;

const state = {
  model: null,
  key: "", // the API key: here and nowhere else
  entries: [],
  chosen: null,
  opacity: 50,
  running: 0,
  pausedUntil: 0, // the server asked for patience until then, milliseconds
  count: 0,
};

// ---- words -----------------------------------------------------------------------------------

/** A probability in words that never promise certainty: "61 %", "< 1 %", "> 99 %". */
function percent(value) {
  if (value < 0.01) return "<\u00a01\u00a0%";
  if (value >= 0.995) return ">\u00a099\u00a0%";
  return `${Math.round(100 * value)}\u00a0%`;
}

/** "a", "a or b", "a, b or c". */
function either(names) {
  if (names.length < 2) return names.join("");
  return `${names.slice(0, -1).join(", ")} or ${names.at(-1)}`;
}

/** "1 image", "3 images". */
const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

/** The conformal set in words. */
function setWords(result, coverage) {
  const level = `With ${Math.round(100 * coverage)}\u00a0% coverage: `;
  const names = result.classes.filter((each) => each.in_set).map((each) => small(each.name));
  if (!names.length) return `${level}no class. The image fits none of them well.`;
  if (names.length === result.classes.length) return `${level}any of the ${names.length} classes.`;
  return `${level}${either(names)}.`;
}

/** Where in the image a map is strongest, in words. */
function placeWords(u, v) {
  const column = u < 1 / 3 ? "left" : u > 2 / 3 ? "right" : "";
  const row = v < 1 / 3 ? "upper" : v > 2 / 3 ? "lower" : "";
  if (!row && !column) return "in the centre";
  if (!column) return row === "upper" ? "at the top" : "at the bottom";
  return row ? `in the ${row} ${column}` : `on the ${column}`;
}

/**
 * What to say first about an entry.
 * @returns {{look: string, title: string, words: string, short: string}} look: sure, unsure, stop
 *     or wait; short: for the list
 */
function verdict(entry) {
  if (entry.state === "failed") {
    return { look: "stop", title: entry.error.title, words: entry.error.words, short: "No answer" };
  }
  if (entry.state === "busy") {
    return {
      look: "wait",
      title: "The server is busy",
      words: entry.note,
      short: "The server is busy",
    };
  }
  if (entry.state !== "answered") {
    if (!state.model)
      return { look: "wait", title: "Waiting for the server …", words: "", short: "Waiting …" };
    return {
      look: "wait",
      title: entry.result ? "Asking again …" : "Asking the model …",
      words: "",
      short: "Asking …",
    };
  }
  return answeredVerdict(entry.result, entry.referral);
}

function answeredVerdict(result, referral) {
  const stated = [referral?.promise, referral?.measured?.text].filter(Boolean).join(" ");
  switch (result.reason) {
    case "":
      return {
        look: "sure",
        short: "Not referred",
        title: "Nothing malignant suspected",
        words: `${stated} The model can still be wrong.`,
      };
    case "benign_undecided":
      return {
        look: "sure",
        short: "Not referred: class undecided",
        title: "Nothing malignant suspected; which class it is stays undecided",
        words: `${stated} The model can still be wrong.`,
      };
    case "malignancy_likely":
      return {
        look: "unsure",
        short: "Refer: malignancy likely",
        title: "Refer: malignancy likely",
        words: result.reason_text,
      };
    case "malignancy_possible":
      return {
        look: "unsure",
        short: "Refer: malignancy possible",
        title: "Refer: malignancy possible",
        words: `${result.reason_text} ${referral?.promise ?? ""}`,
      };
    case "unlike":
      return {
        look: "stop",
        short: "Refer: cannot judge",
        title: "Refer: cannot judge this image",
        words: "This image does not look like a dermatoscopic image; no answer is shown.",
      };
    case "unreadable":
      return {
        look: "stop",
        short: "Refer: cannot judge",
        title: "Refer: cannot judge this image",
        words: `The file cannot be read as an image. ${capital(result.error?.message ?? result.reason_text)}`,
      };
    default:
      return {
        look: "stop",
        short: "Refer",
        title: "Refer",
        words: result.reason_text || result.reason,
      };
  }
}

/** Say something to screen readers, once. */
function announce(text) {
  at("live").textContent = text;
}

// ---- the server ------------------------------------------------------------------------------

/** A failure in words. `again`: trying again may help; `wait`: seconds until then, or null. */
class Failure extends Error {
  constructor(title, words, { again = true, status = 0, wait = null } = {}) {
    super(title);
    Object.assign(this, { title, words, again, status, wait });
  }
}

const TITLES = {
  400: "The server did not understand this request",
  401: "The server asks for an API key",
  403: "The server refuses",
  408: "The image took too long to arrive",
  413: "This image is too large for the server",
  415: "The server does not take this kind of file",
  422: "The server cannot use this image",
  429: "The server is busy",
  503: "The server is not ready",
};

const GONE = new Failure(
  "The server does not answer.",
  "It may have been stopped. Start it again with “lesionlab serve”, then try again.",
);

/** Seconds that a Retry-After header asks for, or null where there is none. */
function retryAfter(headers) {
  const text = headers.get("Retry-After");
  if (text === null) return null;
  const seconds = Number.isNaN(Number(text))
    ? (Date.parse(text) - Date.now()) / 1000
    : Number(text);
  return Number.isFinite(seconds) ? clamp(Math.ceil(seconds), 1, 120) : 1;
}

/** Fetch JSON of the server, with the key if there is one, and give up after PATIENCE seconds. */
async function call(path, { body = null, signal = null } = {}) {
  const timer = new AbortController();
  const late = setTimeout(() => timer.abort(), 1000 * PATIENCE);
  const stop = () => timer.abort();
  signal?.addEventListener("abort", stop);
  try {
    const headers = state.key ? { "X-API-Key": state.key } : {};
    const method = body ? "POST" : "GET";
    const response = await fetch(path, {
      method,
      body,
      headers,
      signal: timer.signal,
      cache: "no-store",
    });
    return await understood(response);
  } catch (fault) {
    if (fault instanceof Failure || signal?.aborted) throw fault;
    if (timer.signal.aborted)
      throw new Failure("No answer in time", `The server took longer than ${PATIENCE} seconds.`);
    throw body && (await isAlive()) ? brokenOff() : GONE;
  } finally {
    clearTimeout(late);
    signal?.removeEventListener("abort", stop);
  }
}

/** The body of a response, or a Failure with the server's own words about what to do. */
async function understood(response) {
  const body = await response.json().catch(() => null);
  if (body && (response.ok || Array.isArray(body.results))) return body;
  const { status } = response;
  const title =
    TITLES[status] ?? (status >= 500 ? "The server failed" : "Unexpected answer of the server");
  const words = body?.error?.message ?? `It answered with status ${status}.`;
  const again = ![413, 415, 422].includes(status);
  const wait = retryAfter(response.headers) ?? (status === 429 ? 2 : null);
  throw new Failure(title, words, { again, status, wait });
}

/** Whether the server still answers: a refused upload can look like a server that is gone. */
async function isAlive() {
  try {
    return (await fetch("healthz", { cache: "no-store", signal: AbortSignal.timeout(3000) })).ok;
  } catch {
    return false;
  }
}

const brokenOff = () =>
  new Failure(
    "The connection broke off while the image was sent",
    "The image may be too large for this server. Crop it or choose a smaller one, or try again.",
  );

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

function raiseAlarm(failure) {
  at("alarm-again").hidden = !failure.again;
  at("alarm-title").textContent = failure.title;
  at("alarm-words").textContent = failure.words;
  at("alarm").hidden = false;
}

/** Fill in what depends on the model alone. */
function introduce(model) {
  at("notice").textContent = model.notice || at("notice").textContent;
  at("about").textContent = [
    `Model ${model.name} ${model.version}`,
    `fingerprint ${model.fingerprint}`,
    model.precision,
    model.licence,
  ]
    .filter(Boolean)
    .join(" · ");
  for (const field of ["age", "sex", "site"])
    at(field).parentElement.hidden = !model.fields.includes(field);
  fillSelect(at("sex"), [["", "Not given"], ...model.sexes.map((each) => [each, capital(each)])]);
  fillSelect(at("site"), [["", "Not given"], ...model.sites.map((each) => [each, capital(each)])]);
}

function fillSelect(select, options) {
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
}

// ---- entries and their queue -----------------------------------------------------------------

/** Take files in as entries, choose the first of them if none is chosen, and ask about all. */
function add(files) {
  const fresh = [...files].map((file) => ({
    id: ++state.count,
    file, // as it came
    sent: file, // what goes to the server: the file or a crop of it
    name: file.name,
    url: URL.createObjectURL(file),
    crop: null,
    patient: { age: "", sex: "", site: "" },
    state: "waiting", // waiting, asking, busy, answered, failed
    tries: 0,
    showable: true,
    revealed: false,
    mapOf: null,
  }));
  if (!fresh.length) return;
  state.entries.push(...fresh);
  state.chosen = state.entries.find((each) => each.id === state.chosen?.id) ?? fresh[0];
  announce(`${counted(fresh.length, "image")} added.`);
  render();
  pump();
  for (const entry of fresh) thumbs = thumbs.then(() => drawThumb(entry));
}

function remove(entry) {
  const place = state.entries.indexOf(entry);
  forget(entry);
  state.entries.splice(place, 1);
  if (state.chosen === entry)
    state.chosen = state.entries[place] ?? state.entries[place - 1] ?? null;
  render();
  announce(`${entry.name} removed.`);
  (state.chosen ? at("detail-title") : at("choose")).focus();
}

function removeAll() {
  state.entries.forEach(forget);
  Object.assign(state, { entries: [], chosen: null });
  render();
  announce("All images removed.");
  at("choose").focus();
}

function forget(entry) {
  entry.controller?.abort();
  clearTimeout(entry.timer);
  URL.revokeObjectURL(entry.url);
}

/** Put an entry back in the queue, whatever it was doing. */
function again(entry) {
  entry.controller?.abort();
  clearTimeout(entry.timer);
  Object.assign(entry, { state: "waiting", tries: 0, error: null });
  render();
  pump();
}

/** Ask again about all that failed and may succeed now. */
function allAgain() {
  at("alarm").hidden = true;
  state.entries.filter((each) => each.state === "failed" && each.error.again).forEach(again);
  if (!state.entries.length) meet();
}

/** Ask about waiting entries, the chosen one first, as long as requests are free. */
function pump() {
  if (!state.model || at("asking-key").open) return;
  const waiting = state.entries.filter((each) => each.state === "waiting");
  waiting.sort((one, two) => (two === state.chosen) - (one === state.chosen));
  for (const entry of waiting.slice(0, PARALLEL - state.running)) {
    if (Date.now() < state.pausedUntil)
      postpone(entry, Math.ceil((state.pausedUntil - Date.now()) / 1000));
    else ask(entry);
  }
}

/** One request about one entry. A later one about the same entry makes this one void. */
async function ask(entry) {
  const controller = new AbortController();
  Object.assign(entry, { state: "asking", controller, tries: entry.tries + 1 });
  state.running += 1;
  render();
  try {
    const body = await call("v1/predict", { body: await formOf(entry), signal: controller.signal });
    if (!controller.signal.aborted) take(entry, body);
  } catch (fault) {
    if (!controller.signal.aborted) endure(entry, fault);
  } finally {
    state.running -= 1;
  }
  render();
  pump();
}

/** The form that asks about an entry. The file is read first: it may have gone meanwhile. */
async function formOf(entry) {
  const form = new FormData();
  let bytes;
  try {
    bytes = await entry.sent.arrayBuffer();
  } catch {
    throw new Failure(
      "This file can no longer be read",
      "It was moved, changed or is a folder. Choose it again.",
    );
  }
  form.append("images", new Blob([bytes], { type: entry.sent.type }), entry.name);
  for (const field of state.model.fields) {
    if (entry.patient[field]) form.append(field, entry.patient[field]);
  }
  form.append("maps", state.model.maps ? "all" : "none");
  return form;
}

function take(entry, body) {
  const result = body.results[0];
  at("alarm").hidden = true;
  Object.assign(entry, {
    state: "answered",
    result,
    coverage: body.coverage,
    referral: body.referral,
    model: body.model,
    revealed: false,
    error: null,
    mapOf: result.classes.some((each) => each.label === entry.mapOf)
      ? entry.mapOf
      : result.predicted,
  });
  if (entry === state.chosen) announce(spoken(entry));
  else if (state.entries.every(isDone)) announce(`${counted(state.entries.length, "image")} done.`);
}

const isDone = (entry) => entry.state === "answered" || entry.state === "failed";

/** An answer in one breath. */
function spoken(entry) {
  const { title, words } = verdict(entry);
  const said = [`${entry.name}. ${title}. ${words}`];
  if (shows(entry)) {
    const first = entry.result.classes[0];
    said.push(`Likeliest class: ${small(first.name)}, ${percent(first.probability)}.`);
  }
  return said.join(" ");
}

/** What to do when an entry got no answer. */
function endure(entry, fault) {
  const failure = fault instanceof Failure ? fault : new Failure("This page failed", String(fault));
  if (failure.status === 401) {
    entry.state = "waiting";
    askForKey();
  } else if (failure.wait !== null && entry.tries < TRIES) {
    state.pausedUntil = Date.now() + 1000 * failure.wait;
    postpone(entry, failure.wait);
    announce(`${failure.title}. ${entry.note}`);
  } else {
    fail(entry, failure);
  }
}

function fail(entry, failure) {
  Object.assign(entry, { state: "failed", error: failure });
  if (failure === GONE && state.entries.length > 1) raiseAlarm(GONE);
  if (entry === state.chosen) announce(`${entry.name}. ${failure.title}. ${failure.words}`);
}

function postpone(entry, seconds) {
  Object.assign(entry, {
    state: "busy",
    note: `Trying again by itself in ${counted(seconds, "second")}.`,
  });
  entry.timer = setTimeout(() => {
    if (entry.state !== "busy") return;
    entry.state = "waiting";
    pump();
  }, 1000 * seconds);
}

// ---- drawing the page ------------------------------------------------------------------------

/** What figures and map were last built from: renders in between leave them, and the focus, alone. */
const drawn = { figures: null, map: null, maps: null };

/** Whether the figures of an entry are shown: there are some, and they are not held back. */
const shows = (entry) =>
  Boolean(entry.result?.classes.length) &&
  entry.state !== "failed" &&
  (entry.result.reason !== "unlike" || entry.revealed);

function render() {
  const focused = document.activeElement;
  renderAll();
  const lost = focused !== document.body && (focused.disabled || !focused.getClientRects().length);
  if (lost && state.chosen) at("detail-title").focus({ preventScroll: true });
}

function renderAll() {
  const count = state.entries.length;
  at("main").dataset.images = ["none", "one"][count] ?? "many";
  at("work").hidden = !count;
  if (!count) return;
  at("progress").textContent = progressWords();
  at("export").disabled = !state.entries.some(isDone);
  renderList();
  renderDetail(state.chosen);
}

function progressWords() {
  const done = state.entries.filter(isDone).length;
  const all = state.entries.length;
  return done < all ? `${done} of ${all} done` : counted(all, "image");
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
  if (entry === state.chosen) button.setAttribute("aria-current", "true");
  else button.removeAttribute("aria-current");
  button.querySelector(".first").textContent = first ? capital(first.name) : short;
  button.querySelector(".second").textContent = first
    ? `${percent(first.probability)} · ${short}`
    : "";
  const thumb = button.querySelector(".thumb");
  if (entry.thumb && thumb.firstChild !== entry.thumb) thumb.replaceChildren(entry.thumb);
}

function choose(entry) {
  state.chosen = entry;
  render();
  pump();
}

/** Arrow keys, Home and End go through the list. */
function walk(event, entry) {
  const here = state.entries.indexOf(entry);
  const last = state.entries.length - 1;
  const goal = { ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: last }[event.key];
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
  at("place").textContent = `${place + 1} of ${state.entries.length}`;
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
  if (picture.src !== entry.url) picture.src = entry.url;
  picture.alt = entry.name;
  picture.hidden = !entry.showable;
  at("no-picture").hidden = entry.showable;
  at("crop").hidden = !entry.showable;
  at("size").textContent = sizeWords(entry);
}

/** Give the frame the picture's shape, so that a map lies on it and nowhere else. */
function shapeFrame() {
  const { naturalWidth, naturalHeight } = at("picture");
  if (naturalHeight) at("frame").style.setProperty("--ratio", String(naturalWidth / naturalHeight));
}

function sizeWords(entry) {
  const { width, height } = entry.crop ?? entry.natural ?? entry.result ?? {};
  if (!width) return "";
  const whole = entry.crop ? `, cropped from ${entry.natural.width} × ${entry.natural.height}` : "";
  return `${width} × ${height} pixels${whole}`;
}

function renderPatient(entry) {
  const useless = entry.state === "answered" && entry.result.reason === "unreadable";
  at("patient").hidden = useless || !state.model?.fields.length;
  for (const field of ["age", "sex", "site"]) {
    if (at(field) !== document.activeElement) at(field).value = entry.patient[field];
  }
  if (at("age") !== document.activeElement) at("age-fault").textContent = "";
  const common = ["age", "sex"].filter((field) => state.model?.fields.includes(field));
  at("share").textContent = `Use ${common.join(" and ")} for all images`;
  at("share").hidden = state.entries.length < 2 || !common.some((field) => entry.patient[field]);
}

function renderVerdict(entry) {
  const { look, title, words } = verdict(entry);
  at("verdict").dataset.look = look;
  at("sign").setAttribute("href", `#sign-${look}`);
  at("verdict-title").textContent = title;
  at("verdict-words").textContent = words;
  at("again").hidden = !(entry.state === "failed" && entry.error.again);
  const unlike = entry.state === "answered" && entry.result.reason === "unlike";
  const large =
    entry.state === "failed" && (entry.error.status === 413 || entry.error.status === 0);
  at("crop-hint").hidden = !entry.showable || !(unlike || (large && entry.error !== GONE));
  at("reveal").hidden = !unlike;
  at("reveal").open = unlike && entry.revealed;
  at("answer").setAttribute("aria-busy", String(["waiting", "asking"].includes(entry.state)));
}

function renderFigures(entry) {
  at("first").hidden = at("figures").hidden = !shows(entry);
  if (!shows(entry) || drawn.figures === entry.result) return;
  drawn.figures = entry.result;
  const { result, coverage } = entry;
  const [first] = result.classes;
  at("likeliest-name").textContent = capital(first.name);
  at("likeliest-value").textContent = percent(first.probability);
  at("set").textContent = setWords(result, coverage);
  at("classes").replaceChildren(...result.classes.map(classRow));
  at("promise").textContent =
    `Calibrated probabilities. Of 100 such sets about ${Math.round(100 * coverage)} hold the true class, ` +
    "for images like those that the model was tested on.";
  renderPoints(result);
}

function classRow(each) {
  const row = at("class-row").content.firstElementChild.cloneNode(true);
  const bar = row.querySelector("progress");
  row.classList.toggle("in-set", each.in_set);
  row.querySelector(".name").textContent = capital(each.name);
  row.querySelector(".value").textContent = percent(each.probability);
  row.querySelector(".mark").textContent = each.in_set ? "in the set" : "";
  bar.value = each.probability;
  bar.textContent = percent(each.probability);
  bar.setAttribute("aria-label", each.name);
  bar.setAttribute("aria-valuetext", percent(each.probability));
  return row;
}

function renderPoints(result) {
  at("points").hidden = !result.thresholds?.length;
  const names = Object.fromEntries(result.classes.map((each) => [each.label, small(each.name)]));
  at("points-list").replaceChildren(
    ...(result.thresholds ?? []).map((each) => {
      const item = document.createElement("li");
      item.textContent = pointWords(each, names[each.label] ?? each.label);
      return item;
    }),
  );
}

/** "90 % sensitivity for melanoma: reached (13 % or more)". */
function pointWords(point, name) {
  const [, level, what] = /^at_(\d+)_([a-z_]+)/.exec(point.name) ?? [];
  const label = level
    ? `${level}\u00a0% ${what.replaceAll("_", " ")} for ${name}`
    : `${point.name}`;
  return `${capital(label)}: ${point.reached ? "reached" : "not reached"} (from ${percent(point.threshold)})`;
}

// ---- the map ---------------------------------------------------------------------------------

// Viridis (public domain): perceptually uniform, and the same to most colour-blind eyes.
const PALETTE = [
  [68, 1, 84],
  [72, 24, 106],
  [71, 45, 123],
  [66, 64, 134],
  [59, 82, 139],
  [51, 99, 141],
  [44, 114, 142],
  [38, 130, 142],
  [33, 145, 140],
  [31, 160, 136],
  [40, 174, 128],
  [63, 188, 115],
  [94, 201, 98],
  [132, 212, 75],
  [173, 220, 48],
  [216, 226, 25],
  [253, 231, 37],
];

/** Colour and cover of a value from 0 to 1: [red, green, blue, alpha], 0 to 255. Weak is clear. */
const colourOf = (value) => COLOURS[Math.round(255 * clamp(value, 0, 1))];

function mixedColour(value) {
  const place = value * (PALETTE.length - 1);
  const low = Math.min(Math.floor(place), PALETTE.length - 2);
  const mixed = PALETTE[low].map((each, i) => each + (PALETTE[low + 1][i] - each) * (place - low));
  return [...mixed, 255 * clamp(value / 0.4, 0, 1)];
}

const COLOURS = Array.from({ length: 256 }, (_, i) => mixedColour(i / 255));

/** A grid's value at (u, v), both 0 to 1 from the upper left; bilinear between cell centres. */
function sample(map, u, v) {
  const x = clamp(u * map.columns - 0.5, 0, map.columns - 1);
  const y = clamp(v * map.rows - 0.5, 0, map.rows - 1);
  const [left, top] = [Math.floor(x), Math.floor(y)];
  const [right, bottom] = [Math.min(left + 1, map.columns - 1), Math.min(top + 1, map.rows - 1)];
  const value = (row, column) => map.values[row * map.columns + column];
  const upper = value(top, left) * (1 - x + left) + value(top, right) * (x - left);
  const lower = value(bottom, left) * (1 - x + left) + value(bottom, right) * (x - left);
  return upper * (1 - y + top) + lower * (y - top);
}

/** The part of the image that the model sees, in fractions of it: it may crop or pad. */
function seen(width, height, input) {
  const ratio = width / height / (input.width / input.height); // above 1: the image is wider
  if (input.fit === "stretch" || !Number.isFinite(ratio))
    return { x: 0, y: 0, width: 1, height: 1 };
  const inside = input.fit === "crop" ? ratio > 1 : ratio < 1;
  const size = inside ? { width: 1 / ratio, height: 1 } : { width: 1, height: ratio };
  return { ...size, x: (1 - size.width) / 2, y: (1 - size.height) / 2 };
}

function drawMap(canvas, map, width, height, input) {
  const scale = 320 / Math.max(width, height);
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const part = seen(width, height, input);
  const pixels = new ImageData(canvas.width, canvas.height);
  for (let y = 0, i = 0; y < canvas.height; y++) {
    for (let x = 0; x < canvas.width; x++, i += 4) {
      const u = ((x + 0.5) / canvas.width - part.x) / part.width;
      const v = ((y + 0.5) / canvas.height - part.y) / part.height;
      if (u >= 0 && u <= 1 && v >= 0 && v <= 1) pixels.data.set(colourOf(sample(map, u, v)), i);
    }
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

function drawRamp() {
  const canvas = at("ramp");
  const pixels = new ImageData(canvas.width, canvas.height);
  for (let i = 0; i < canvas.width * canvas.height; i++) {
    pixels.data.set(colourOf((i % canvas.width) / (canvas.width - 1)), 4 * i);
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

function renderMap(entry) {
  const maps = shows(entry) ? entry.result.maps : [];
  at("mapping").hidden = !maps.length;
  const map = maps.find((each) => each.label === entry.mapOf) ?? maps[0];
  at("map").hidden = !map || map.blank || !entry.showable;
  if (!map) return;
  const mapped = entry.result.classes.filter((each) =>
    maps.some((one) => one.label === each.label),
  );
  if (drawn.maps !== maps)
    fillSelect(
      at("map-class"),
      mapped.map((each) => [each.label, capital(each.name)]),
    );
  drawn.maps = maps;
  at("map-class").value = map.label;
  if (drawn.map === map) return;
  drawn.map = map;
  const words = mapWords(map, small(mapped.find((each) => each.label === map.label).name), entry);
  at("map-words").textContent = words;
  at("map").setAttribute("aria-label", words);
  if (!map.blank)
    drawMap(at("map"), map, entry.result.width, entry.result.height, state.model.input);
}

function mapWords(map, name, entry) {
  if (map.blank) return `The map is blank: no part of the image speaks for ${name}.`;
  const peak = map.values.indexOf(Math.max(...map.values));
  const part = seen(entry.result.width, entry.result.height, state.model.input);
  const u = part.x + (((peak % map.columns) + 0.5) / map.columns) * part.width;
  const v = part.y + ((Math.floor(peak / map.columns) + 0.5) / map.rows) * part.height;
  return `What speaks for ${name} is strongest ${placeWords(u, v)}. A map shows where, not why.`;
}

function setOpacity() {
  state.opacity = Number(at("opacity").value);
  at("opacity-words").textContent = `${state.opacity}\u00a0%`;
  at("opacity").setAttribute("aria-valuetext", `${state.opacity} percent`);
  at("map").style.opacity = String(state.opacity / 100);
}

// ---- thumbnails and crops --------------------------------------------------------------------

/** A file's pixels as they are stored, upright; colour profiles are left alone, as on the server. */
const decode = (file) =>
  createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });

let thumbs = Promise.resolve(); // one after the other: a decoded photograph takes 100 MB

async function drawThumb(entry) {
  if (!state.entries.includes(entry)) return;
  try {
    const bitmap = await decode(entry.sent);
    if (!entry.crop) entry.natural = { width: bitmap.width, height: bitmap.height };
    entry.thumb = thumbnail(bitmap);
    entry.showable = true;
    bitmap.close();
  } catch {
    entry.showable = false;
    entry.thumb = document.createTextNode("no view");
  }
  render();
}

/** A square from the middle of an image. */
function thumbnail(bitmap) {
  const canvas = Object.assign(document.createElement("canvas"), { width: 120, height: 120 });
  const side = Math.min(bitmap.width, bitmap.height);
  const [x, y] = [(bitmap.width - side) / 2, (bitmap.height - side) / 2];
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.drawImage(bitmap, x, y, side, side, 0, 0, 120, 120);
  return canvas;
}

/** The crop at work: its entry, bitmap, frame in image pixels, and what the pointer drags. */
const crop = { entry: null, bitmap: null, frame: null, drag: null, scale: 1 };

async function openCrop() {
  const entry = state.chosen;
  try {
    crop.bitmap = await decode(entry.file);
  } catch {
    announce("This image cannot be cropped here.");
    return;
  }
  const { width, height } = crop.bitmap;
  crop.entry = entry;
  crop.frame = entry.crop ?? centred(width * 0.8, height * 0.8);
  at("cropper").querySelector("[value=free]").checked = true;
  at("cropper-fault").textContent = "";
  at("crop-whole").hidden = !entry.crop;
  at("cropper").showModal();
  sizeBoard();
  setFrame(crop.frame);
  at("board").focus();
}

function centred(width, height) {
  const { bitmap } = crop;
  return { x: (bitmap.width - width) / 2, y: (bitmap.height - height) / 2, width, height };
}

/** Fit the board into the dialog and the window. */
function sizeBoard() {
  const style = getComputedStyle(at("board").parentElement);
  const room =
    at("board").parentElement.clientWidth -
    parseFloat(style.paddingLeft) -
    parseFloat(style.paddingRight);
  const { width, height } = crop.bitmap;
  crop.scale = Math.min(room / width, (0.42 * window.innerHeight) / height);
  const sharp = window.devicePixelRatio || 1;
  const board = at("board");
  board.width = Math.round(width * crop.scale * sharp);
  board.height = Math.round(height * crop.scale * sharp);
  board.style.width = `${Math.round(width * crop.scale)}px`;
  board.style.height = `${Math.round(height * crop.scale)}px`;
}

const square = () => at("cropper").querySelector("[value=square]").checked;

/** Take a frame, in whole pixels and inside the image, and show it. */
function setFrame({ x, y, width, height }) {
  const { bitmap } = crop;
  const least = Math.min(SMALLEST, bitmap.width, bitmap.height);
  let [w, h] = [
    clamp(Math.round(width), least, bitmap.width),
    clamp(Math.round(height), least, bitmap.height),
  ];
  if (square()) w = h = Math.min(w, h);
  crop.frame = {
    x: clamp(Math.round(x), 0, bitmap.width - w),
    y: clamp(Math.round(y), 0, bitmap.height - h),
    width: w,
    height: h,
  };
  drawBoard();
  for (const side of ["x", "y", "width", "height"]) at(`crop-${side}`).value = crop.frame[side];
  at("cropper-size").textContent = `${w} × ${h} of ${bitmap.width} × ${bitmap.height} pixels`;
}

function drawBoard() {
  const board = at("board");
  const pen = board.getContext("2d");
  const scale = board.width / crop.bitmap.width;
  const [x, y, w, h] = ["x", "y", "width", "height"].map((each) => crop.frame[each] * scale);
  pen.drawImage(crop.bitmap, 0, 0, board.width, board.height);
  pen.fillStyle = "rgb(8 12 16 / 62%)";
  pen.fill(new Path2D(`M0 0H${board.width}V${board.height}H0ZM${x} ${y}V${y + h}H${x + w}V${y}Z`));
  const thin = board.width / board.clientWidth || 1;
  for (const [colour, width] of [
    ["#000", 4],
    ["#fff", 2],
  ]) {
    // seen on dark and on light skin
    pen.strokeStyle = colour;
    pen.lineWidth = width * thin;
    pen.strokeRect(x, y, w, h);
  }
  for (const [cx, cy] of [
    [x, y],
    [x + w, y],
    [x, y + h],
    [x + w, y + h],
  ]) {
    pen.beginPath();
    pen.arc(cx, cy, 7 * thin, 0, 2 * Math.PI);
    pen.fillStyle = "#fff";
    pen.fill();
    pen.lineWidth = 1.5 * thin;
    pen.strokeStyle = "#000";
    pen.stroke();
  }
}

/** Where a pointer is, in image pixels. */
function pointed(event) {
  const box = at("board").getBoundingClientRect();
  const scale = crop.bitmap.width / box.width;
  return { x: (event.clientX - box.left) * scale, y: (event.clientY - box.top) * scale, scale };
}

function startDrag(event) {
  const { x, y, scale } = pointed(event);
  const { frame } = crop;
  const reach = 26 * scale; // a finger's
  const near = (a, b) => Math.abs(a - b) < reach;
  const right = near(x, frame.x + frame.width) ? true : near(x, frame.x) ? false : null;
  const bottom = near(y, frame.y + frame.height) ? true : near(y, frame.y) ? false : null;
  const corner = right !== null && bottom !== null;
  crop.drag = { x, y, frame, right, bottom, corner };
  at("board").setPointerCapture(event.pointerId);
  event.preventDefault();
  at("board").focus();
}

function drag(event) {
  if (!crop.drag) return;
  const { frame, corner, right, bottom } = crop.drag;
  const { x, y } = pointed(event);
  const [dx, dy] = [x - crop.drag.x, y - crop.drag.y];
  if (corner) setFrame(stretched(frame, dx, dy, right, bottom));
  else setFrame({ ...frame, x: frame.x + dx, y: frame.y + dy });
}

/** A frame whose one corner is moved while the opposite one stays. */
function stretched(frame, dx, dy, right, bottom) {
  const { bitmap } = crop;
  const room = {
    width: right ? bitmap.width - frame.x : frame.x + frame.width,
    height: bottom ? bitmap.height - frame.y : frame.y + frame.height,
  };
  let width = clamp(frame.width + (right ? dx : -dx), SMALLEST, room.width);
  let height = clamp(frame.height + (bottom ? dy : -dy), SMALLEST, room.height);
  if (square()) width = height = Math.min(Math.max(width, height), room.width, room.height);
  return {
    x: right ? frame.x : frame.x + frame.width - width,
    y: bottom ? frame.y : frame.y + frame.height - height,
    width,
    height,
  };
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Arrow keys move the frame; with Shift they change its size. */
function nudge(event) {
  if (!(event.key in ARROWS)) return;
  event.preventDefault();
  const stride = Math.max(1, Math.round(Math.max(crop.bitmap.width, crop.bitmap.height) / 50));
  const [dx, dy] = ARROWS[event.key].map((each) => each * stride);
  const { frame } = crop;
  if (!event.shiftKey) setFrame({ ...frame, x: frame.x + dx, y: frame.y + dy });
  else if (square())
    setFrame({ ...frame, width: frame.width + dx + dy, height: frame.height + dx + dy });
  else setFrame({ ...frame, width: frame.width + dx, height: frame.height + dy });
}

function typeFrame() {
  const [x, y, width, height] = ["x", "y", "width", "height"].map((side) =>
    Number(at(`crop-${side}`).value),
  );
  setFrame({
    x,
    y,
    width: Math.min(width, crop.bitmap.width - x),
    height: Math.min(height, crop.bitmap.height - y),
  });
}

/** Cut the frame out at the image's own resolution and ask about it. */
async function useCrop() {
  const { frame, bitmap, entry } = crop;
  const canvas = Object.assign(document.createElement("canvas"), {
    width: frame.width,
    height: frame.height,
  });
  canvas.getContext("2d").drawImage(bitmap, -frame.x, -frame.y);
  const type = frame.width * frame.height <= LOSSLESS ? "image/png" : "image/jpeg";
  const blob = await new Promise((done) => canvas.toBlob(done, type, 0.95));
  if (!blob) {
    at("cropper-fault").textContent =
      "The crop is too large for this browser. Choose a smaller frame.";
    return;
  }
  at("cropper").close();
  replace(entry, blob, frame);
}

function useWhole() {
  at("cropper").close();
  if (crop.entry.crop) replace(crop.entry, crop.entry.file, null);
}

function replace(entry, blob, frame) {
  URL.revokeObjectURL(entry.url);
  Object.assign(entry, {
    sent: blob,
    url: URL.createObjectURL(blob),
    crop: frame,
    result: null,
    mapOf: null,
  });
  drawThumb(entry);
  announce(
    frame ? `Cropped to ${frame.width} × ${frame.height} pixels.` : "The whole image again.",
  );
  again(entry);
}

// ---- table of the answers --------------------------------------------------------------------

/** A cell of a CSV file that a spreadsheet does not take for a formula. */
function cell(value) {
  const risky = typeof value === "string" && /^[\t\r\n]|^\s*[=+\-@＝＋－＠]/.test(value);
  const text = risky ? `'${value}` : String(value);
  return /[",\r\n;]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function csvRow(entry, labels) {
  const result = entry.state === "answered" ? entry.result : null;
  const frame = entry.crop;
  const name = frame
    ? `${entry.name}#xywh=${frame.x},${frame.y},${frame.width},${frame.height}`
    : entry.name;
  const chance = Object.fromEntries(
    (result?.classes ?? []).map((each) => [each.label, each.probability]),
  );
  const reason = result ? result.reason : entry.state === "failed" ? "failed" : "waiting";
  return [
    name,
    result?.predicted ?? "",
    ...labels.map((label) => chance[label] ?? ""),
    result?.set.join(" ") ?? "",
    reason,
    entry.model?.fingerprint ?? state.model.fingerprint,
  ];
}

function tableOf(entries) {
  const labels = state.model.classes.map((each) => each.label);
  const head = [
    "image",
    "predicted",
    ...labels.map((label) => `p_${label}`),
    "set",
    "reason",
    "model_fingerprint",
  ];
  const rows = [head, ...entries.map((entry) => csvRow(entry, labels))];
  return rows.map((row) => row.map(cell).join(",") + "\r\n").join("");
}

function exportTable() {
  const text = "\ufeff" + tableOf(state.entries); // the mark tells spreadsheets that it is UTF-8
  const url = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  const link = Object.assign(document.createElement("a"), {
    href: url,
    download: "lesionlab-answers.csv",
  });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
  announce(`${counted(state.entries.length, "row")} exported.`);
}

// ---- what the reader does --------------------------------------------------------------------

/** Files that were dropped or pasted; folders are named, not taken. */
function filesOf(transfer) {
  const folders = [...(transfer.items ?? [])].filter(
    (each) => each.webkitGetAsEntry?.()?.isDirectory,
  );
  if (folders.length) {
    raiseAlarm({
      title: "A folder cannot be dropped here.",
      words: "Open it and drop the images in it.",
    });
    return [...transfer.items]
      .filter((each) => each.kind === "file" && !folders.includes(each))
      .map((each) => each.getAsFile());
  }
  return [...transfer.files];
}

function paste(event) {
  const files = filesOf(event.clipboardData ?? { files: [] });
  if (!files.length || document.querySelector("dialog[open]")) return;
  event.preventDefault();
  add(
    files.map((file) =>
      file.name === "image.png" ? renamed(file, `pasted-${state.count + 1}.png`) : file,
    ),
  );
}

const renamed = (file, name) => new File([file], name, { type: file.type });

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

function changePatient(field) {
  const input = at(field);
  const fault = field === "age" && !input.validity.valid;
  at("age-fault").textContent = fault
    ? "Give the age in whole years, from 0 to 120, or leave it empty."
    : "";
  if (fault || state.chosen.patient[field] === input.value) return;
  state.chosen.patient[field] = input.value;
  again(state.chosen);
}

function sharePatient() {
  const { age, sex } = state.chosen.patient;
  for (const entry of state.entries) {
    if (entry.patient.age === age && entry.patient.sex === sex) continue;
    Object.assign(entry.patient, { age, sex });
    again(entry);
  }
  announce("Age and sex now hold for all images.");
}

function reveal() {
  const entry = state.chosen;
  if (!entry || at("reveal").open === entry.revealed || entry.result?.reason !== "unlike") return;
  entry.revealed = at("reveal").open;
  render();
}

function askForKey() {
  if (at("asking-key").open) return;
  at("key-fault").textContent = state.key ? "The server does not know this key." : "";
  state.key = "";
  at("key").value = "";
  at("asking-key").returnValue = "cancel";
  at("asking-key").showModal();
  at("key").focus();
}

/** Go on with the key, or say what is missing. */
function keyGiven() {
  const given = at("key").value.trim();
  at("key").value = "";
  state.key = at("asking-key").returnValue === "use" ? given.replace(/[^\x21-\x7e]/g, "?") : ""; // others cannot be sent
  const missing = new Failure(TITLES[401], "Without it there is no answer.", { status: 401 });
  if (state.key) return state.model ? pump() : meet();
  for (const entry of state.entries) if (entry.state === "waiting") fail(entry, missing);
  if (!state.model) raiseAlarm(missing);
  render();
}

// ---- themes ----------------------------------------------------------------------------------

const isDark = () =>
  (document.documentElement.dataset.theme ??
    (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";

/** A setting of this browser; some refuse to keep any. */
function kept(value) {
  try {
    if (value) localStorage.setItem("lesionlab-theme", value);
    return localStorage.getItem("lesionlab-theme");
  } catch {
    return null;
  }
}

function switchTheme() {
  const theme = isDark() ? "light" : "dark";
  kept(theme);
  setTheme(theme);
}

function setTheme(theme) {
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  at("theme").textContent = isDark() ? "Light theme" : "Dark theme";
}

// ---- start -----------------------------------------------------------------------------------

function listen() {
  const on = (id, event, action) => at(id).addEventListener(event, action);
  on("choose", "change", takeInput);
  on("photo", "change", takeInput);
  document.addEventListener("paste", paste);
  document.addEventListener("drop", drop);
  document.addEventListener("dragover", dragOver);
  document.addEventListener("dragleave", dragLeave);
  on("alarm-again", "click", () => (state.model ? allAgain() : meet()));
  on("export", "click", exportTable);
  on("clear", "click", removeAll);
  on("previous", "click", () => step(-1));
  on("next", "click", () => step(1));
  on("remove", "click", () => remove(state.chosen));
  on("picture", "load", shapeFrame);
  on("again", "click", () => again(state.chosen));
  on("reveal", "toggle", reveal);
  on("opacity", "input", setOpacity);
  on("map-class", "change", () => {
    state.chosen.mapOf = at("map-class").value;
    renderMap(state.chosen);
    announce(at("map-words").textContent);
  });
  for (const field of ["age", "sex", "site"]) on(field, "change", () => changePatient(field));
  on("share", "click", sharePatient);
  on("patient", "submit", (event) => event.preventDefault());
  on("asking-key", "close", keyGiven);
  on("theme", "click", switchTheme);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => setTheme(null));
  listenToCropper(on);
}

function listenToCropper(on) {
  on("crop", "click", openCrop);
  on("crop-hint", "click", openCrop);
  on("crop-use", "click", useCrop);
  on("crop-whole", "click", useWhole);
  on("board", "pointerdown", startDrag);
  on("board", "pointermove", drag);
  on("board", "pointerup", () => (crop.drag = null));
  on("board", "pointercancel", () => (crop.drag = null));
  on("board", "keydown", nudge);
  for (const side of ["x", "y", "width", "height"]) on(`crop-${side}`, "change", typeFrame);
  for (const input of document.querySelectorAll("[name=shape]"))
    input.addEventListener("change", () => setFrame(crop.frame));
  on("cropper", "close", () => {
    crop.bitmap.close();
    at("crop").focus();
  });
  window.addEventListener("resize", () => {
    if (!at("cropper").open) return;
    sizeBoard();
    drawBoard();
  });
}

setTheme(kept());
at("server").textContent = `this server (${location.host})`;
listen();
drawRamp();
setOpacity();
meet();
