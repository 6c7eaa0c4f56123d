// What this tab remembers when it is loaded again: answers, and small copies of the images. It is
// the browser's session storage: gone with the tab, and never sent anywhere.

const PREFIX = "lesionlab-image-";
const FIELDS = [
  "id", "name", "crop", "natural", "sentSize", "patient", "drawn", "copy",
  "result", "answer", "time", "revealed",
]; // prettier-ignore

function keys() {
  const own = Object.keys(sessionStorage).filter((each) => each.startsWith(PREFIX));
  return own.sort((one, two) => idOf(one) - idOf(two));
}

const idOf = (key) => Number(key.slice(PREFIX.length));

/** Keep an answered entry; where there is no room, the oldest images give theirs up first. */
export function keep(entry) {
  const pairs = FIELDS.map((each) => [each, entry[each]]);
  const noPicture = (key, value) => (key === "picture" ? "" : value); // of other people's lesions
  const text = JSON.stringify(Object.fromEntries(pairs), noPicture);
  try {
    for (;;) {
      try {
        sessionStorage.setItem(PREFIX + entry.id, text);
        return;
      } catch (fault) {
        if (fault.name !== "QuotaExceededError" || !dropOldestCopy(entry.id)) return;
      }
    }
  } catch {
    // this browser keeps nothing: the page works all the same
  }
}

/** Drop the copy of the oldest image that has one; whether there was one. */
function dropOldestCopy(sparing) {
  for (const key of keys()) {
    const entry = JSON.parse(sessionStorage.getItem(key));
    if (!entry.copy || entry.id === sparing) continue;
    sessionStorage.setItem(key, JSON.stringify({ ...entry, copy: "" }));
    return true;
  }
  return false;
}

export function drop(entry) {
  try {
    sessionStorage.removeItem(PREFIX + entry.id);
  } catch {
    // nothing was kept
  }
}

/** The entries that were kept, the oldest first. */
export function kept() {
  try {
    return keys().map((key) => JSON.parse(sessionStorage.getItem(key)));
  } catch {
    return [];
  }
}
