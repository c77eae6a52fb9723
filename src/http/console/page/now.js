// *Now*: alarms until somebody has seen to them, every portal as a tile, the decisions as they happen, and how the gateway is.
import { post } from "./api.js";
import { fill, h, keep } from "./dom.js";
import { state } from "./live.js";
import { age, alarmWords, kind, meaning, remedy, size, t, time } from "./words.js";

export function show(main, { said }) {
  const alarms = h("ul", { class: "alarms" });
  const all = h("p");
  const health = h("div", { class: "tags" });
  const tiles = h("ul", { class: "tiles" });
  const feed = h("ol", { class: "feed" });
  fill(main,
    h("section", { "aria-labelledby": "alarms" }, h("h2", { id: "alarms" }, t("alarms")), all, alarms),
    h("section", { "aria-labelledby": "health" }, h("h2", { id: "health" }, t("health")), health),
    h("div", { class: "columns" },
      h("section", { "aria-labelledby": "portals" }, h("h2", { id: "portals" }, t("portals")), tiles),
      h("section", { "aria-labelledby": "decisions" }, h("h2", { id: "decisions" }, t("decisions")), feed)));

  async function seen(from, to) {
    try {
      await post("/api/v1/orders", { order: "acknowledge", from, to });
    } catch (error) {
      said(error.message, "bad");
    }
  }

  function update() {
    const open = [...state.alarms.values()].reverse();
    const may = state.session.changes;
    const summary = `${open.length} ${may}`;
    if (all.dataset.shown !== summary) {
      all.dataset.shown = summary;
      const first = open.at(-1)?.n;
      fill(all, open.length === 0 ? t("no_alarms") : [
        may ? null : t("login_for_alarms"),
        may && open.length > 1 && h("button", { onclick: () => seen(first, open[0].n) }, t("seen_all")),
      ]);
    }
    keep(alarms, open, (alarm) => alarm.n, (alarm) => `${alarm.over} ${may}`, (alarm) => alarmItem(alarm, may, seen));
    const tags = healthTags();
    const text = JSON.stringify(tags);
    if (health.dataset.shown !== text) {
      health.dataset.shown = text;
      fill(health, tags.map(([look, words]) => h("span", { class: `tag ${look}` }, words)));
    }
    const looks = new Map([...state.portals.keys()].map((id) => [id, look(id)]));
    keep(tiles, [...state.portals.values()], (portal) => portal.id,
      (portal) => JSON.stringify([looks.get(portal.id), portal.last?.n]), (portal) => tile(portal, looks.get(portal.id)));
    keep(feed, state.decisions, (event) => event.n, () => "", decision);
  }
  update();
  return { update };
}

function alarmItem(alarm, may, seen) {
  const words = alarmWords(alarm.alarm);
  return h("li", { class: alarm.over ? "over" : null },
    h("div", null,
      h("strong", null, words.means), " ", alarm.portal && h("span", { class: "tag" }, alarm.portal), " ",
      alarm.uid && h("span", { class: "mono" }, alarm.uid),
      h("p", null, words.todo),
      h("p", { class: "soft" }, time(alarm.at), alarm.over && ` · ${t("over_since")} ${time(alarm.over)}`, " · ", alarm.detail)),
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
  tags.push([stuck ? "bad" : "good", stuck ? s.not_ready.join("; ") : t("disk_good")]);
  if (s.disk_free_bytes !== undefined) tags.push([roomLook(s.disk_free_bytes), `${t("disk_free")}: ${size(s.disk_free_bytes)}`]);
  if (s.cards !== undefined) tags.push(["", `${s.cards} ${t("cards")}`]);
  if (s.audit) tags.push(["", `${t("audit_last")} ${s.audit.last}, ${t("center_has")} ${s.audit.acked}`]);
  for (const fault of s.broker_faults ?? []) tags.push(["bad", `${fault.link}: ${fault.detail}`]);
  for (const text of s.insecure ?? []) tags.push(["warn", `${t("insecure")}: ${text}`]);
  for (const wrong of s.malformed ?? []) tags.push(["warn", `${wrong.portal}: ${wrong.wrong}`]);
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
    meaning(event.reason), " ", h("span", { class: "soft" }, time(event.at)));
}

function decision(event) {
  const granted = event.decision === "grant";
  const whole = event.uid && !event.uid.startsWith("…") && !event.uid.startsWith("h:");
  const todo = granted ? "" : remedy(event.reason);
  return h("li", { class: "new", "data-n": event.n },
    h("span", { class: "soft" }, time(event.at)),
    h("span", { class: `tag ${granted ? "good" : "bad"}` }, t(granted ? "grant" : "deny")),
    h("strong", null, event.portal ?? "?"),
    event.uid && (whole ? h("a", { href: `#/card/${event.uid}`, class: "mono" }, event.uid) : h("span", { class: "mono" }, event.uid)),
    event.holder && h("span", null, event.holder),
    h("span", null, meaning(event.reason), todo && h("span", { class: "soft" }, ` — ${todo}`)));
}
