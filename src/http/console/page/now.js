// *Now*: alarms until somebody has seen to them, every portal as a tile, the decisions as they happen, and how the gateway is.
import { post } from "./api.js";
import { ask, code, fill, filter, h, keep } from "./dom.js";
import { said as sentence } from "./facts.js";
import { state } from "./live.js";
import { age, alarmWords, gravity, kind, meaning, remedy, size, t, time } from "./words.js";

export function show(main, { said }) {
  const alarms = h("ul", { class: "alarms" });
  const all = h("p");
  const health = h("div", { class: "tags" });
  const tiles = h("ul", { class: "tiles" });
  const feed = h("ol", { class: "feed" });
  const none = h("p", { class: "soft" });
  const head = h("h2", { id: "alarms", tabindex: "-1" }, t("alarms"));
  let wanted = () => true;
  const only = filter(t("filter"), (matches) => { wanted = matches; update(); });
  fill(main,
    h("section", { "aria-labelledby": "alarms" }, head, all, alarms),
    h("section", { "aria-labelledby": "health" }, h("h2", { id: "health" }, t("health")), health),
    h("div", { class: "columns" },
      h("section", { "aria-labelledby": "decisions" }, h("h2", { id: "decisions" }, t("decisions")), feed),
      h("section", { "aria-labelledby": "portals" }, h("h2", { id: "portals" }, t("portals")), only, none, tiles)));

  async function seen(from, to) {
    try {
      await post("/api/v1/orders", { order: "acknowledge", from, to });
    } catch (error) {
      said(error.message, "bad");
    }
  }

  async function seenAll(open) {
    const numbers = open.map((alarm) => alarm.n);
    const yes = await ask({ title: `${t("seen_all")} (${open.length})`, body: h("p", null, t("seen_all_means")), yes: t("seen_all"), no: t("back") });
    if (yes) await seen(Math.min(...numbers), Math.max(...numbers));
  }

  function update() {
    const open = [...state.alarms.values()].sort((a, b) => gravity(a.alarm) - gravity(b.alarm) || b.n - a.n);
    const focused = head.parentElement.contains(document.activeElement);
    const may = state.session.changes;
    const summary = `${open.map((alarm) => alarm.n)} ${may}`;
    if (all.dataset.shown !== summary) {
      all.dataset.shown = summary;
      fill(all, open.length === 0 ? t("no_alarms") : [
        may ? null : t("login_for_alarms"),
        may && open.length > 1 && h("button", { onclick: () => seenAll(open) }, t("seen_all")),
      ]);
    }
    keep(alarms, open, (alarm) => alarm.n, (alarm) => `${alarm.over} ${may} ${alarm.uid}`, (alarm) => alarmItem(alarm, may, seen));
    // The button with the focus went with its alarm.
    if (focused && document.activeElement === document.body) (alarms.querySelector("button") ?? head).focus();
    const tags = healthTags();
    const text = JSON.stringify(tags);
    if (health.dataset.shown !== text) {
      health.dataset.shown = text;
      fill(health, tags.map(([look, words]) => h("span", { class: `tag ${look}` }, words)));
    }
    const looks = new Map([...state.portals.keys()].map((id) => [id, look(id)]));
    const listed = [...state.portals.values()].filter((portal) => wanted(portal.id, portal.zone));
    none.textContent = listed.length === 0 && state.portals.size > 0 ? t("none_match") : "";
    keep(tiles, listed, (portal) => portal.id,
      (portal) => JSON.stringify([looks.get(portal.id), portal.last?.n]), (portal) => tile(portal, looks.get(portal.id)));
    keep(feed, state.decisions, (event) => event.n, (event) => String(event.uid), decision);
  }
  update();
  return { update };
}

function alarmItem(alarm, may, seen) {
  const words = alarmWords(alarm.alarm);
  return h("li", { class: alarm.over ? "over" : null },
    h("div", null,
      h("strong", null, words.means), " ", code(alarm.alarm), " ", alarm.portal && h("span", { class: "tag" }, alarm.portal), " ",
      alarm.uid && h("span", { class: "mono" }, alarm.uid),
      h("p", null, words.todo),
      h("p", { class: "soft" }, time(alarm.at), alarm.over && ` · ${t("over_since")} ${time(alarm.over)}`, " · ", sentence(alarm.detail))),
    may && h("button", { onclick: () => seen(alarm.n, alarm.n), "aria-label": `${t("seen")}: ${words.means} ${alarm.portal ?? ""}` }, t("seen")));
}

/** How the gateway is: the look and the words of each tag. */
function healthTags() {
  const s = state.status;
  const tags = [];
  for (const link of s.links ?? []) tags.push([link.up ? "good" : "bad", `${t(`link_${link.link}`)}: ${t(link.up ? "connected" : "away")}`]);
  tags.push([s.clock === "trusted" ? "good" : "bad", `${t("clock")}: ${t(s.clock === "trusted" ? "trusted" : "untrusted")}`]);
  for (const stream of s.streams ?? []) {
    const late = stream.age_s === undefined || stream.age_s > 900;
    const missing = stream.missing ? ` · ${stream.missing} ${t("missing")}` : "";
    tags.push([late || stream.missing ? "warn" : "good", `${t("list")} ${stream.name}: ${stream.age_s === undefined ? t("never") : age(stream.age_s)}${missing}`]);
  }
  const stuck = (s.not_ready ?? []).length > 0;
  tags.push([stuck ? "bad" : "good", stuck ? s.not_ready.map(sentence).join("; ") : t("disk_good")]);
  if (s.disk_free_bytes !== undefined) tags.push([roomLook(s.disk_free_bytes), `${t("disk_free")}: ${size(s.disk_free_bytes)}`]);
  if (s.cards !== undefined) tags.push(["", `${s.cards} ${t("cards")}`]);
  if (s.audit) tags.push(["", `${t("audit_last")} ${s.audit.last}, ${t("center_has")} ${s.audit.acked}`]);
  for (const fault of s.broker_faults ?? []) tags.push(["bad", `${fault.link}: ${sentence(fault.detail)}`]);
  for (const text of s.insecure ?? []) tags.push(["warn", `${t("insecure")}: ${sentence(text)}`]);
  for (const wrong of s.malformed ?? []) tags.push(["warn", `${wrong.portal}: ${t("unreadable")} ${wrong.wrong}`]);
  for (const open of s.unconfirmed ?? []) tags.push(["bad", `${open.portal}: ${t("unconfirmed")} ${time(open.since)}`]);
  return tags;
}

/** Room on the disk below which somebody has to look, in bytes; the alert `DormgateDiskRoom` has the first of them too. */
const ROOM_LOW = 1e9;
const ROOM_GONE = 256 * 1024 * 1024;
const roomLook = (bytes) => (bytes < ROOM_GONE ? "bad" : bytes < ROOM_LOW ? "warn" : "good");

/** What the state has about a portal. */
export function look(id) {
  const s = state.status;
  const meter = (s.meters ?? []).find((meter) => meter.portal === id);
  return {
    online: !(s.offline ?? []).includes(id),
    silent: (s.unreported ?? []).includes(id),
    posture: (s.modes ?? []).find((mode) => mode.portal === id)?.posture ?? "secure",
    on: (s.on ?? []).includes(id),
    power: meter?.power_w,
    energy: meter?.energy_kwh,
  };
}

/** The tags of a portal. */
export function tags(portal, { online, silent, posture, on, power }) {
  return h("div", { class: "tags" },
    h("span", { class: `tag ${online ? "good" : "bad"}` }, t(online ? "online" : silent ? "silent" : "offline")),
    posture !== "secure" && h("span", { class: "tag warn" }, t(`posture_${posture}`)),
    portal.kind === "power_box" && h("span", { class: `tag ${on ? "good" : ""}` }, t(on ? "power_is_on" : "power_is_off")),
    power !== undefined && h("span", { class: "tag" }, `${power} W`));
}

function tile(portal, look) {
  const held = look.posture !== "secure";
  return h("li", { class: `card ${look.online ? (held ? "held" : "up") : "down"}` },
    h("h3", null, portal.id),
    h("p", { class: "soft" }, `${kind(portal.kind)} · ${portal.zone}`, portal.direction && ` · ${t(portal.direction)}`),
    tags(portal, look),
    portal.last ? lastCard(portal.last) : h("p", { class: "soft" }, t("no_card_yet")));
}

function lastCard(event) {
  const granted = event.decision === "grant";
  return h("p", null,
    h("span", { class: `tag ${granted ? "good" : "bad"}` }, t(granted ? "grant" : "deny")), " ",
    meaning(event.reason), " ", code(event.reason), " ", flagTags(event.flags),
    event.uid && h("span", { class: "mono" }, tail(event.uid)), " ", h("span", { class: "soft" }, time(event.at)), " ", why(event, t("why")));
}

const isWhole = (uid) => uid && !uid.startsWith("…") && !uid.startsWith("h:");

/** Leads from a denial to its explanation at that portal. Who does not see the whole UID types it there. */
const why = (event, words) => event.decision !== "grant" && event.portal
  && h("a", { href: `#/card/${isWhole(event.uid) ? event.uid : ""}/${event.portal}`, "aria-label": `${t("why")}: ${event.portal}` }, words);

/** What a grant carries, each with its words. */
export const flagTags = (flags) => (flags ?? []).map((flag) => [h("span", { class: "tag warn", title: remedy(flag) }, meaning(flag), " ", code(flag)), " "]);

/** A card as a screen shows it that many see: the end of its UID. */
const tail = (uid) => (/^[0-9A-F]{5,}$/i.test(uid) ? `…${uid.slice(-4)}` : uid);

function decision(event) {
  const granted = event.decision === "grant";
  const todo = granted ? "" : remedy(event.reason);
  return h("li", { class: "new", "data-n": event.n },
    h("span", { class: "soft" }, time(event.at)),
    h("span", { class: `tag ${granted ? "good" : "bad"}` }, t(granted ? "grant" : "deny")),
    h("strong", null, event.portal ?? "?"),
    event.uid && (isWhole(event.uid) ? h("a", { href: `#/card/${event.uid}`, class: "mono" }, event.uid) : h("span", { class: "mono" }, event.uid)),
    event.holder && h("span", null, event.holder),
    h("span", null, meaning(event.reason), " ", code(event.reason), " ", flagTags(event.flags), todo && h("span", { class: "soft" }, ` — ${todo}`), " ", why(event, t("why"))));
}
