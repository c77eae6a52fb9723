// What is sent to be published, and which gateways have put it in force. Each submission of a form has a key of its own: sent again, by
// a second click or because the answer was lost, it is the same change.
import { post } from "./api.js";
import { fill, h, keep } from "./dom.js";
import { faultWords } from "./faults.js";
import { onAck } from "./live.js";
import { t, time } from "./words.js";

/** Time between two looks for acks whose events were missed, in milliseconds. */
const LOOK_MS = 10000;

function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Whether it is not known that a request was carried out: then it may be sent again under its key. */
const isOpen = (error) => [0, 429, 502, 503, 504].includes(error.status);

/** A place that sends what one form asks for, one after the other. */
export function sender() {
  let last = null;
  let busy = false;
  /** Sends `body` to `path`; `null`: the same is being sent already. */
  return async function send(path, body) {
    if (busy) return null;
    busy = true;
    const asks = body instanceof Blob ? { path, body } : { path, text: JSON.stringify(body) };
    // What was sent before without an answer is repeated; anything else is a change of its own.
    const again = last && last.path === path && last.body === asks.body && last.text === asks.text;
    const key = again ? last.key : newKey();
    last = { ...asks, key };
    // An ack may come before the answer.
    const early = [];
    const stop = onAck((gateway, ack) => ack && early.push([gateway, ack]));
    try {
      const answer = await post(path, body, { "idempotency-key": key });
      last = null;
      return { path, body, key, answer, early };
    } catch (error) {
      if (!isOpen(error)) last = null;
      throw error;
    } finally {
      busy = false;
      stop();
    }
  };
}

/** What has come of an order: a list that is kept up to date until every gateway has answered. */
export function follow(title, { path, body, key, answer, early }) {
  const gateways = new Map();
  const name = (gateway, { stream, epoch, seq }) => `${gateway} ${stream} ${epoch}.${seq}`;
  const list = h("ul", { class: "steps" });
  const summary = h("p", { role: "status" });
  const numbers = answer.messages.map(({ to, stream, epoch, seq }) => `${to === "campus" ? t("campus") : to} · ${stream} ${epoch}.${seq}`);
  const box = h("section", { class: "card order" },
    h("h3", null, title),
    h("p", { class: "soft" }, numbers.length === 0 ? t("changes_nothing") : `${t("published_as")} ${numbers.join(", ")}`),
    summary, list);

  function take(answer) {
    answer.waiting.forEach((one) => gateways.has(name(one.gateway, one)) || gateways.set(name(one.gateway, one), { ...one, ack: null }));
    answer.acks.forEach((ack) => gateways.set(name(ack.gateway, ack), { ...ack, ack }));
    draw();
  }

  function draw() {
    const all = [...gateways.values()];
    const done = all.filter(({ ack }) => ack).length;
    summary.textContent = all.length === 0 ? "" : done === all.length ? `${t("everywhere")} (${done})` : `${done} ${t("of")} ${all.length} ${t("have_it")}`;
    keep(list, all, (one) => name(one.gateway, one), ({ ack }) => JSON.stringify(ack), item);
    if (done === all.length) end();
  }

  function item({ gateway, ack }) {
    const refused = ack?.outcome === "rejected";
    const look = ack ? (refused ? "bad" : "good") : "warn";
    return h("li", { "data-gateway": gateway },
      h("span", { class: `tag ${look}` }, t(ack ? (refused ? "refused" : "in_force") : "waiting")), " ",
      h("strong", null, gateway), " ",
      ack && h("span", { class: "soft" }, `${time(ack.received_at)}${ack.took_ms === undefined ? "" : ` (${ack.took_ms} ms)`}`),
      refused && h("span", null, ` ${(ack.errors ?? []).map((error) => error.message).join("; ")}`));
  }

  // By its events, and by a look at what is kept for when an event was missed.
  const stop = onAck((gateway, ack) => (ack ? received(gateway, ack) : look()));
  function received(gateway, ack) {
    const known = gateways.get(name(gateway, ack));
    if (known && !known.ack) {
      known.ack = ack;
      draw();
    }
  }
  const timer = setInterval(look, LOOK_MS);
  async function look() {
    if (!box.isConnected) return;
    try {
      take(await post(path, body, { "idempotency-key": key }));
    } catch {
      // It is looked for again.
    }
  }
  function end() {
    clearInterval(timer);
    stop();
  }
  take(answer);
  early.forEach(([gateway, ack]) => received(gateway, ack));
  return box;
}

/** Shows what is wrong at the field that it names, or under the form: what, and what to do. `input(path)` gives the field of a path. */
export function showWrong(form, error, input) {
  clearWrong(form);
  const at = error.field ? input(error.field) : null;
  const known = t(`code_${error.code}`);
  const message = faultWords(error.message);
  const text = known === `code_${error.code}` ? message : `${known} (${message})`;
  const id = `wrong-${newKey()}`;
  const note = h("p", { class: "said bad wrong", role: "alert", id }, text);
  if (at) {
    at.setAttribute("aria-invalid", "true");
    at.setAttribute("aria-describedby", id);
    at.closest("label").after(note);
    at.focus();
  } else {
    form.append(note);
  }
}

export function clearWrong(form) {
  form.querySelectorAll(".wrong").forEach((note) => note.remove());
  form.querySelectorAll("[aria-invalid]").forEach((input) => {
    input.removeAttribute("aria-invalid");
    input.removeAttribute("aria-describedby");
  });
}

/** The gateway of a form whose op goes to one; nothing where it goes to the campus. */
export function gatewayField(names) {
  const select = h("select", { name: "gateway" }, [...names].map((name) => h("option", { value: name }, name)));
  return h("label", { class: "field" }, t("gateway"), select);
}
