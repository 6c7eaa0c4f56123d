// One entry per image: it waits, is asked about (one request each, two at a time), and is answered
// or fails. Answered ones are remembered by this tab. `events.change` draws the page.

import * as history from "./history.js";
import { copyOf, decode, decodeCopy, smaller, thumbnail } from "./images.js";
import { call, Failure, GONE } from "./server.js";

const PARALLEL = 2; // requests at a time
const TRIES = 8; // of one image while the server is busy

export const FIELDS = ["age", "sex", "site"];

export const state = {
  model: null,
  entries: [],
  chosen: null,
  before: { age: "", sex: "", site: "" }, // of the images that come next
  paused: false, // while the key is asked for
  running: 0,
  pausedUntil: 0, // the server asked for patience until then, milliseconds
  count: 0,
};

/** What the page does when something happens here. */
export const events = {
  change: () => {},
  added: () => {},
  answered: () => {},
  failed: () => {},
  postponed: () => {},
  keyNeeded: () => {},
};

export const isDone = (entry) => entry.state === "answered" || entry.state === "failed";

/** Whether an entry is a memory of before the page was loaded again: it cannot be asked about. */
export const isMemory = (entry) => !entry.file;

/** Take files in as entries, show the first of them, and ask about all. */
export function add(files, { drawn = false } = {}) {
  const fresh = [...files].map((file) => ({
    id: ++state.count,
    file, // as it came; null for a memory
    crop: null, // the frame that was cut out of it, in its pixels
    cropped: null, // what was cut out
    sentSize: null, // width and height of what was sent, where that was made smaller
    name: file.name,
    url: URL.createObjectURL(file),
    drawn,
    patient: { ...state.before },
    state: "waiting", // waiting, asking, busy, answered, failed
    tries: 0,
    showable: true,
    revealed: drawn, // nobody takes the figures of a drawing for a diagnosis
    mapOf: null,
  }));
  if (!fresh.length) return;
  state.entries.push(...fresh);
  state.chosen = fresh[0];
  events.added(fresh.length);
  pump();
  for (const entry of fresh) look(entry);
}

/** Bring back what this tab remembers. */
export function remember() {
  state.entries = history.kept().map((each) => ({
    ...each,
    file: null,
    url: each.copy,
    time: new Date(each.time),
    state: "answered",
    showable: Boolean(each.copy),
    mapOf: each.result.predicted,
  }));
  state.count = Math.max(0, ...state.entries.map((each) => each.id));
  state.chosen = state.entries[0] ?? null;
  for (const entry of state.entries) if (entry.copy) look(entry);
}

export function remove(entry) {
  const place = state.entries.indexOf(entry);
  forget(entry);
  state.entries.splice(place, 1);
  if (state.chosen === entry)
    state.chosen = state.entries[place] ?? state.entries[place - 1] ?? null;
  events.change();
}

export function removeAll() {
  state.entries.forEach(forget);
  Object.assign(state, { entries: [], chosen: null });
  events.change();
}

function forget(entry) {
  entry.controller?.abort();
  clearTimeout(entry.timer);
  URL.revokeObjectURL(entry.url);
  history.drop(entry);
}

/** Put a crop of an entry, or null for all of it, in its place and ask about that. */
export function replace(entry, blob, frame) {
  URL.revokeObjectURL(entry.url);
  Object.assign(entry, {
    cropped: blob,
    url: URL.createObjectURL(blob ?? entry.file),
    crop: frame,
    sentSize: null,
    result: null,
    copy: null,
    mapOf: null,
  });
  look(entry);
  again(entry);
}

/** Put an entry back in the queue, whatever it was doing. */
export function again(entry) {
  if (isMemory(entry)) return;
  entry.controller?.abort();
  clearTimeout(entry.timer);
  Object.assign(entry, { state: "waiting", tries: 0, error: null });
  events.change();
  pump();
}

/** Ask again about all that failed and may succeed now. */
export function allAgain() {
  state.entries.filter((each) => each.state === "failed" && each.error.again).forEach(again);
}

/** Ask about waiting entries, the chosen one first, as long as requests are free. */
export function pump() {
  if (!state.model || state.paused) return;
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
  events.change();
  try {
    const body = await call("v1/predict", { body: await formOf(entry), signal: controller.signal });
    if (!controller.signal.aborted) take(entry, body);
  } catch (fault) {
    if (!controller.signal.aborted) endure(entry, fault);
  } finally {
    state.running -= 1;
  }
  events.change();
  pump();
}

/** The form that asks about an entry. The file is read first: it may have gone meanwhile. */
async function formOf(entry) {
  const form = new FormData();
  const { blob, size } = entry.cropped
    ? { blob: entry.cropped, size: null }
    : await smaller(entry.file);
  entry.sentSize = size;
  let bytes;
  try {
    bytes = await blob.arrayBuffer();
  } catch {
    throw new Failure("file_gone");
  }
  form.append("images", new Blob([bytes], { type: blob.type }), entry.name);
  for (const field of state.model.fields) {
    if (entry.patient[field]) form.append(field, entry.patient[field]);
  }
  form.append("maps", state.model.maps ? "all" : "none");
  return form;
}

function take(entry, body) {
  const { results, ...answer } = body;
  const [result] = results;
  Object.assign(entry, {
    state: "answered",
    result,
    answer, // what holds for the model: coverage, referral, model
    time: new Date(),
    revealed: false,
    error: null,
    mapOf: result.classes.some((each) => each.label === entry.mapOf)
      ? entry.mapOf
      : result.predicted,
  });
  history.keep(entry);
  events.answered(entry);
}

/** What to do when an entry got no answer. */
function endure(entry, fault) {
  const failure = fault instanceof Failure ? fault : new Failure("page", { said: String(fault) });
  if (failure.status === 401) {
    entry.state = "waiting";
    events.keyNeeded();
  } else if (failure.wait !== null && entry.tries < TRIES) {
    state.pausedUntil = Date.now() + 1000 * failure.wait;
    postpone(entry, failure.wait);
    events.postponed(failure, entry);
  } else {
    fail(entry, failure);
  }
}

export function fail(entry, failure) {
  Object.assign(entry, { state: "failed", error: failure });
  events.failed(entry, failure === GONE && state.entries.length > 1);
}

function postpone(entry, seconds) {
  Object.assign(entry, { state: "busy", seconds });
  entry.timer = setTimeout(() => {
    if (entry.state !== "busy") return;
    entry.state = "waiting";
    pump();
  }, 1000 * seconds);
}

let looking = Promise.resolve(); // one after the other: a decoded photograph takes 100 MB

/** Look at an entry's image: its size, a thumbnail, and the copy that this tab remembers. */
function look(entry) {
  looking = looking.then(async () => {
    if (!state.entries.includes(entry)) return;
    try {
      const source = entry.cropped ?? entry.file;
      const bitmap = await (source ? decode(source) : decodeCopy(entry.url));
      if (source && !entry.crop) entry.natural = { width: bitmap.width, height: bitmap.height };
      entry.thumb = thumbnail(bitmap);
      if (source) entry.copy = copyOf(bitmap);
      entry.showable = true;
      bitmap.close();
    } catch {
      entry.showable = false;
      entry.thumb = null;
    }
    if (entry.state === "answered" && state.entries.includes(entry)) history.keep(entry);
    events.change();
  });
}
