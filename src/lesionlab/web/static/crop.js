// The dialog that crops an image to the lesion.

import { replace, state } from "./entries.js";
import { blobOf, decode } from "./images.js";
import { at, clamp, t } from "./text.js";

const SMALLEST = 16; // pixels on a side of a crop
const LOSSLESS = 6e6; // pixels of a crop that go as PNG; larger ones as JPEG

let announce = () => {};

/** The crop at work: its entry, bitmap, frame in image pixels, and what the pointer drags. */
const crop = { entry: null, bitmap: null, frame: null, drag: null, scale: 1 };

export async function openCrop() {
  const entry = state.chosen;
  try {
    crop.bitmap = await decode(entry.file);
  } catch {
    announce(t("crop.cannot"));
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
  at("cropper-size").textContent = t("crop.size", {
    width: w,
    height: h,
    all: `${bitmap.width} × ${bitmap.height}`,
  });
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
  const blob = await blobOf(canvas, type, 0.95);
  if (!blob) {
    at("cropper-fault").textContent = t("crop.too_large");
    return;
  }
  at("cropper").close();
  replace(entry, blob, frame);
  announce(t("crop.done", frame));
}

function useWhole() {
  at("cropper").close();
  if (!crop.entry.crop) return;
  replace(crop.entry, null, null);
  announce(t("crop.undone"));
}

/** @param say what tells screen readers */
export function listenToCropper(say) {
  announce = say;
  const on = (id, event, action) => at(id).addEventListener(event, action);
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
