// What the gateway is asked, and what it answers. An error has the gateway's own sentence, which names what is wrong and what to do.
import { t } from "./words.js";

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function answer(promise) {
  let response;
  try {
    response = await promise;
  } catch {
    throw new Refused(0, t("unreachable"));
  }
  const text = await response.text();
  let body;
  try {
    body = JSON.parse(text);
  } catch {
    body = { error: text.slice(0, 300) };
  }
  if (!response.ok) throw new Refused(response.status, body.error ?? String(response.status));
  return body;
}

/** A target with a query; what is empty is left out. */
export function target(path, query) {
  const given = Object.entries(query ?? {}).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

export const get = (path, query) => answer(fetch(target(path, query), { credentials: "same-origin" }));

const send = (method) => (path, body) =>
  answer(fetch(path, {
    method,
    credentials: "same-origin",
    headers: { "content-type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  }));

export const post = send("POST");
export const remove = send("DELETE");
