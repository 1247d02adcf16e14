// Talks to the service: one place that knows its addresses, its key and its ways of saying no.

import { askForKey, heldKey } from "./key.js";

const PATIENCE = 30_000; // milliseconds until a reply is given up

/** Why there is no reply. `kind` is an HTTP status, or `offline`; `wait` is in seconds. */
export class Problem extends Error {
  constructor(kind, detail = "", { wait = null, request = null } = {}) {
    super(detail);
    Object.assign(this, { kind, wait, request });
  }

  /** Whether the same request may do better a little later. */
  get passes() {
    return ["offline", 429, 502, 503, 504].includes(this.kind);
  }
}

/** Retry-After in seconds; it is a number of them or a date. */
function waitOf(reply) {
  const given = reply.headers.get("Retry-After");
  if (!given) return null;
  const seconds = /^\d+$/.test(given) ? Number(given) : (Date.parse(given) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.max(1, Math.ceil(seconds)) : null;
}

async function problemOf(reply) {
  const said = await reply.json().catch(() => null);
  const detail = typeof said?.detail === "string" ? said.detail : "";
  const request = reply.headers.get("X-Request-ID");
  return new Problem(reply.status, detail, { wait: waitOf(reply), request });
}

async function once(path, { method = "GET", body, signal } = {}) {
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (heldKey()) headers.Authorization = `Bearer ${heldKey()}`;
  const ends = [AbortSignal.timeout(PATIENCE), ...(signal ? [signal] : [])];
  try {
    const text = body === undefined ? undefined : JSON.stringify(body);
    const reply = await fetch(path, { method, headers, body: text, signal: AbortSignal.any(ends) });
    if (!reply.ok) throw await problemOf(reply);
    return reply.status === 204 ? null : await reply.json();
  } catch (error) {
    if (error instanceof Problem || signal?.aborted) throw error;
    throw new Problem("offline");
  }
}

async function ask(path, request = {}) {
  for (;;) {
    const tried = heldKey();
    try {
      return await once(path, request);
    } catch (problem) {
      if (problem.kind !== 401) throw problem;
      const given = heldKey() !== tried || (await askForKey({ refused: Boolean(tried) }));
      if (!given) throw problem;
    }
  }
}

export const rank = (query, signal) => ask("v1/rank", { method: "POST", body: query, signal });
export const judge = (verdict) => ask("v1/feedback", { method: "POST", body: verdict });
export const takeBack = (key) => ask(`v1/feedback/${encodeURIComponent(key)}`, { method: "DELETE" })
  .catch((problem) => {
    if (problem.kind !== 404) throw problem; // it is not there, which is what is wanted
  });
export const answer = (id) => ask(`v1/answers/${encodeURIComponent(id)}`);
export const stats = (days, signal) => ask(`v1/stats?days=${days}`, { signal });
export const titles = (words, limit, signal) =>
  ask(`v1/answers?${new URLSearchParams({ search: words, limit })}`, { signal });
