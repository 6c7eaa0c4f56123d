// How images come in: dropped, pasted, chosen, photographed, or one of the drawn samples.

import { add, state } from "./entries.js";
import { raiseAlarm } from "./render.js";
import { Failure, GONE } from "./server.js";
import { at, t } from "./text.js";

const SAMPLES = [1, 2, 3, 4, 5, 6].map((count) => `sample-${count}.jpg`);

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
export function offerSamples() {
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

export function listenToIntake() {
  for (const id of ["choose", "photo"]) at(id).addEventListener("change", takeInput);
  // Phones turn HEIC into JPEG unless it is asked for; elsewhere it would not be offered.
  if (!matchMedia("(any-pointer: coarse)").matches) at("choose").accept += ",.heic,.heif";
  document.addEventListener("paste", paste);
  document.addEventListener("drop", drop);
  document.addEventListener("dragover", dragOver);
  document.addEventListener("dragleave", dragLeave);
}
