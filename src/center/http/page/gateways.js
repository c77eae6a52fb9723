// *Gateways*: alarms, and of each gateway whether it is there, has the list that was published, and what it has not acknowledged yet.
import { now } from "./api.js";
import { fill, h, keep } from "./dom.js";
import { state } from "./live.js";
import { age, alarmWords, t, time } from "./words.js";

const ALARMS = 10;
/** A list that is older than this is named, in seconds. */
const OLD_S = 900;
const LOOKS = { equal: "good", no_digest: "", behind: "warn", differs: "bad", ahead: "bad", not_received: "warn" };

export function show(main) {
  const alarms = h("ul", { class: "alarms" });
  const none = h("p");
  const all = h("p", { role: "status" });
  const tiles = h("ul", { class: "tiles" });
  fill(main,
    h("section", { "aria-labelledby": "each" }, h("h2", { id: "each" }, t("page_gateways")), all, tiles),
    h("section", { "aria-labelledby": "alarms" }, h("h2", { id: "alarms" }, t("newest_alarms")), none, alarms));

  function update() {
    const newest = state.alarms.slice(0, ALARMS);
    none.textContent = newest.length === 0 ? t("no_alarm") : "";
    keep(alarms, newest, (alarm) => `${alarm.gateway} ${alarm.n}`, (alarm) => `${alarm.over}`, alarmItem);
    const gateways = [...state.gateways.values()].map(standing);
    const away = gateways.filter((one) => !one.online).length;
    const pending = gateways.reduce((sum, one) => sum + one.pending, 0);
    const text = `${gateways.length} ${t("gateways_in_sum")} · ${away} ${t("away_in_sum")} · ${pending} ${t("pending_in_sum")}${state.broker ? "" : ` · ${t("no_broker")}`}`;
    if (all.textContent !== text) all.textContent = text;
    keep(tiles, gateways, (one) => one.name, (one) => JSON.stringify(one), tile);
  }
  update();
  return { update };
}

function alarmItem(alarm) {
  const words = alarmWords(alarm.alarm);
  return h("li", { class: alarm.over ? "over" : null }, h("div", null,
    h("strong", null, words.means), " ", h("span", { class: "tag" }, alarm.gateway), " ",
    alarm.portal && h("span", { class: "tag" }, alarm.portal), " ", alarm.uid && h("a", { href: `#/card/${alarm.uid}`, class: "mono" }, alarm.uid),
    h("p", null, words.todo),
    h("p", { class: "soft" }, time(alarm.at), alarm.over && ` · ${t("over_since")} ${time(alarm.over)}`, alarm.detail && ` · ${alarm.detail}`)));
}

/** How a gateway stands: all that its tile shows. */
function standing({ gateway: name, state: own, received_at: received, published, streams: known, agreements }) {
  const online = own?.state === "online";
  // In steps, so that a tile is not made again each second.
  const since = received ? Math.max(0, Math.round((now() - new Date(received)) / 10000) * 10) : null;
  const streams = published.map(({ stream, epoch, seq }) => {
    const there = (known ?? []).find((one) => one.name === stream);
    const pending = there?.epoch === epoch ? Math.max(0, seq - there.seq) + (there.missing ?? 0) : seq;
    const current = online ? there?.age_s : undefined;
    // What a gateway has that went before this page was opened is not known.
    return { stream, pending: known || !own ? pending : null, age: current === undefined ? null : current + since, agreement: online ? agreements?.get(stream) : undefined };
  });
  return {
    name, online, received, streams,
    pending: streams.reduce((sum, { pending }) => sum + (pending ?? 0), 0),
    cards: own?.cards, offline: own?.portals?.offline, clock: own?.clock,
    unconfirmed: (own?.unconfirmed ?? []).length, insecure: (own?.insecure ?? []).length,
  };
}

function tile(one) {
  const tag = (look, ...text) => h("span", { class: `tag ${look}` }, text);
  const wrong = one.streams.some(({ agreement }) => LOOKS[agreement] === "bad");
  const held = one.pending > 0;
  return h("li", { class: `card ${!one.online || wrong ? "down" : held ? "held" : "up"}`, "data-gateway": one.name },
    h("h3", null, one.name),
    h("div", { class: "tags" },
      tag(one.online ? "good" : "bad", t(one.online ? "online" : "offline")),
      one.clock && one.clock !== "trusted" && tag("bad", `${t("clock")}: ${t("untrusted")}`),
      one.offline > 0 && tag("warn", `${one.offline} ${t("portals_offline")}`),
      one.unconfirmed > 0 && tag("bad", `${one.unconfirmed} ${t("boxes_unconfirmed")}`),
      one.insecure > 0 && tag("warn", t("insecure")),
      one.cards !== undefined && tag("", `${one.cards} ${t("cards")}`)),
    one.streams.map(({ stream, pending, age: old, agreement }) =>
      h("p", { class: "stream", "data-stream": stream }, h("strong", null, stream), " ",
        agreement && tag(LOOKS[agreement], t(`agreement_${agreement}`)), " ",
        pending > 0 && tag("warn", `${pending} ${t("pending")}`), " ",
        h("span", { class: old > OLD_S ? "tag warn" : "soft" }, old === null ? t("age_unknown") : `${t("list")} ${age(old)}`))),
    one.streams.length === 0 && h("p", { class: "soft" }, t("nothing_published")),
    h("p", { class: "soft" }, one.received ? `${t("last_state")} ${time(one.received)}` : t("no_state")));
}
