// The picture: the map over it, zoom by wheel, pinch, buttons and keys, and full screen.

import { at, clamp } from "./text.js";

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
export function seen(width, height, input) {
  const ratio = width / height / (input.width / input.height); // above 1: the image is wider
  if (input.fit === "stretch" || !Number.isFinite(ratio))
    return { x: 0, y: 0, width: 1, height: 1 };
  const inside = input.fit === "crop" ? ratio > 1 : ratio < 1;
  const size = inside ? { width: 1 / ratio, height: 1 } : { width: 1, height: ratio };
  return { ...size, x: (1 - size.width) / 2, y: (1 - size.height) / 2 };
}

export function drawMap(canvas, map, width, height, input) {
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

export function drawRamp() {
  const canvas = at("ramp");
  const pixels = new ImageData(canvas.width, canvas.height);
  for (let i = 0; i < canvas.width * canvas.height; i++) {
    pixels.data.set(colourOf((i % canvas.width) / (canvas.width - 1)), 4 * i);
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

// ---- zoom ------------------------------------------------------------------------------------

const MOST = 16; // times the size that fits the frame
const STEP = 1.5; // of a button or a key

/** The view: how many times the fitting size, and where its upper left corner is, in frame pixels. */
const view = { scale: 1, x: 0, y: 0 };
const fingers = new Map(); // pointers on the picture, by id

function setView(scale, x, y) {
  const { clientWidth: width, clientHeight: height } = at("frame");
  view.scale = clamp(scale, 1, MOST);
  view.x = clamp(x, width * (1 - view.scale), 0);
  view.y = clamp(y, height * (1 - view.scale), 0);
  at("view").style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale})`;
  at("frame").classList.toggle("zoomed", view.scale > 1);
  at("zoom-out").disabled = view.scale === 1;
}

export const showAll = () => setView(1, 0, 0);

/** Zoom by a factor around a point of the frame, in its pixels; without one around its middle. */
function zoom(factor, point = middle()) {
  const scale = clamp(view.scale * factor, 1, MOST);
  const by = scale / view.scale;
  setView(scale, point.x - (point.x - view.x) * by, point.y - (point.y - view.y) * by);
}

const middle = () => ({ x: at("frame").clientWidth / 2, y: at("frame").clientHeight / 2 });

function inFrame({ clientX, clientY }) {
  const box = at("frame").getBoundingClientRect();
  return { x: clientX - box.left, y: clientY - box.top };
}

/** The wheel zooms; where there is nothing left to zoom out of, it scrolls the page. */
function wheel(event) {
  if (event.deltaY > 0 && view.scale === 1) return;
  event.preventDefault();
  const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 30 : 1;
  const speed = event.ctrlKey ? 0.01 : 0.002; // a pinch on a touchpad comes in smaller steps
  zoom(Math.exp(-speed * lines * clamp(event.deltaY, -200, 200)), inFrame(event));
}

function press(event) {
  fingers.set(event.pointerId, inFrame(event));
  if (view.scale > 1 || fingers.size > 1) at("frame").setPointerCapture(event.pointerId);
}

/** One pointer moves the picture; two zoom it around their middle, and move it with them. */
function move(event) {
  const before = fingers.get(event.pointerId);
  if (!before) return;
  const now = inFrame(event);
  const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
  fingers.set(event.pointerId, now);
  if (!other) return setView(view.scale, view.x + now.x - before.x, view.y + now.y - before.y);
  const apart = (one) => Math.hypot(one.x - other.x, one.y - other.y);
  const between = (one) => ({ x: (one.x + other.x) / 2, y: (one.y + other.y) / 2 });
  const [from, to] = [between(before), between(now)];
  zoom(apart(now) / Math.max(apart(before), 1), from);
  setView(view.scale, view.x + to.x - from.x, view.y + to.y - from.y);
}

const release = (event) => fingers.delete(event.pointerId);

const MOVES = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

function pressKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const stride = 0.15 * at("frame").clientWidth;
  if (event.key === "+" || event.key === "=") zoom(STEP);
  else if (event.key === "-") zoom(1 / STEP);
  else if (event.key === "0") showAll();
  else if (event.key in MOVES && view.scale > 1) {
    const [dx, dy] = MOVES[event.key];
    setView(view.scale, view.x + dx * stride, view.y + dy * stride);
  } else return;
  event.preventDefault();
}

// ---- full screen -----------------------------------------------------------------------------

/** Move the picture into a dialog over all the page, and that over all the screen where possible. */
function openFull() {
  at("full").prepend(at("viewer"));
  at("full").showModal();
  at("full")
    .requestFullscreen?.()
    .catch(() => {}); // the dialog fills the window all the same
  at("full-close").focus();
}

function leaveFull() {
  if (document.fullscreenElement) document.exitFullscreen();
  at("stage").prepend(at("viewer"));
  showAll();
  at("full-open").focus();
}

export function listenToPicture() {
  const frame = at("frame");
  frame.addEventListener("wheel", wheel, { passive: false });
  frame.addEventListener("pointerdown", press);
  frame.addEventListener("pointermove", move);
  for (const each of ["pointerup", "pointercancel", "lostpointercapture"])
    frame.addEventListener(each, release);
  frame.addEventListener("keydown", pressKey);
  frame.addEventListener("dblclick", (event) =>
    view.scale > 1 ? showAll() : zoom(3, inFrame(event)),
  );
  at("zoom-in").addEventListener("click", () => zoom(STEP));
  at("zoom-out").addEventListener("click", () => zoom(1 / STEP));
  at("full-open").addEventListener("click", openFull);
  at("full-close").addEventListener("click", () => at("full").close());
  at("full").addEventListener("close", leaveFull);
  document.addEventListener("fullscreenchange", () => {
    if (!document.fullscreenElement && at("full").open) at("full").close();
  });
  new ResizeObserver(() => setView(view.scale, view.x, view.y)).observe(frame);
}
