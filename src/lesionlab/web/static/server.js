// The server: questions, and failures in words.

import { clamp, language, t } from "./text.js";

const PATIENCE = 60; // seconds for one answer

export const access = { key: "" }; // the API key: here and nowhere else

/**
 * A failure: `kind` names its texts, `said` is the server's own word on what to do.
 * `again`: trying again may help; `wait`: seconds until then, or null.
 */
export class Failure extends Error {
  constructor(kind, { said = "", again = true, status = 0, wait = null, values = {} } = {}) {
    super(kind);
    Object.assign(this, { kind, said, again, status, wait, values });
  }
  get title() {
    return t(`fault.${this.kind}`);
  }
  get words() {
    return this.said || t(`fault.${this.kind}.words`, this.values);
  }
}

export const GONE = new Failure("gone");

const KNOWN = [400, 401, 403, 408, 413, 415, 422, 429, 503];

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
export async function call(path, { body = null, signal = null } = {}) {
  const timer = new AbortController();
  const late = setTimeout(() => timer.abort(), 1000 * PATIENCE);
  const stop = () => timer.abort();
  signal?.addEventListener("abort", stop);
  try {
    const response = await fetch(path, {
      method: body ? "POST" : "GET",
      body,
      headers: { "Accept-Language": language(), ...(access.key && { "X-API-Key": access.key }) },
      signal: timer.signal,
      cache: "no-store",
    });
    return await understood(response);
  } catch (fault) {
    if (fault instanceof Failure || signal?.aborted) throw fault;
    if (timer.signal.aborted) throw new Failure("late", { values: { count: PATIENCE } });
    throw body && (await isAlive()) ? new Failure("broken_off") : GONE;
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
  throw new Failure(KNOWN.includes(status) ? status : status >= 500 ? "server" : "other", {
    said: body?.error?.message ?? t("fault.status.words", { status }),
    again: ![413, 415, 422].includes(status),
    status,
    wait: retryAfter(response.headers) ?? (status === 429 ? 2 : null),
  });
}

/** Whether the server still answers: a refused upload can look like a server that is gone. */
async function isAlive() {
  try {
    return (await fetch("healthz", { cache: "no-store", signal: AbortSignal.timeout(3000) })).ok;
  } catch {
    return false;
  }
}
