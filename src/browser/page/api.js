// What the gateway is asked, and what it answers. An error has the gateway's own sentence, which names what is wrong and what to do.
import { refusal, t } from "./words.js";

export class Refused extends Error {
  constructor(status, message, more) {
    super(message);
    this.status = status;
    /** What a center names besides: its `code`, the `field` that is wrong, the `faults` of a sheet. */
    Object.assign(this, more);
  }
}

let ahead = 0;
/** Now by the clock of the server, in milliseconds: this person's own may show anything. */
export const now = () => Date.now() + ahead;

async function answer(promise) {
  let response;
  try {
    response = await promise;
  } catch {
    throw new Refused(0, t("unreachable"));
  }
  const at = Date.parse(response.headers.get("date"));
  if (at) ahead = at - Date.now();
  const text = await response.text();
  let body;
  try {
    body = JSON.parse(text);
  } catch {
    body = { error: text.slice(0, 300) };
  }
  if (!response.ok) {
    const { message, ...more } = typeof body.error === "object" ? body.error : { message: body.error };
    throw new Refused(response.status, refusal(message ?? String(response.status)), more);
  }
  return body;
}

/** A target with a query; what is empty is left out. */
export function target(path, query) {
  const given = Object.entries(query ?? {}).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

export const get = (path, query) => answer(fetch(target(path, query), { credentials: "same-origin" }));

/** A `Blob` is sent as it is, anything else as JSON. */
const send = (method) => (path, body, headers) =>
  answer(fetch(path, {
    method,
    credentials: "same-origin",
    headers: { "content-type": "application/json", ...headers },
    body: body === undefined || body instanceof Blob ? body : JSON.stringify(body),
  }));

export const post = send("POST");
export const remove = send("DELETE");
