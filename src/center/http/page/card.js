// *Cards*: a card in any spelling, or a holder; what was published about it, where a dead card is dead, and where it was tried.
import { get } from "./api.js";
import { field, fill, h } from "./dom.js";
import { state } from "./live.js";
import { meaning, t, time } from "./words.js";

const TRIES = 10;
const ORDERS = 20;

export function show(main, { rest: [begun = ""] }) {
  const input = h("input", { name: "text", value: begun, autocomplete: "off", spellcheck: "false", required: true, maxlength: "128", class: "mono" });
  const result = h("div", { "aria-live": "polite" });
  const form = h("form", { class: "row", onsubmit: (event) => { event.preventDefault(); look(input.value); } },
    field(t("find_label"), input, "wide"),
    h("button", { class: "main", type: "submit" }, t("look_up")));
  fill(main, h("h2", null, t("page_card")), h("p", { class: "soft" }, t("find_hint")), form, result);

  let newest = 0;
  async function look(text) {
    const mine = ++newest;
    // It is found again after a reload, and on the way back.
    history.replaceState(null, "", `#/card/${encodeURIComponent(text.trim())}`);
    fill(result, h("p", null, t("loading")));
    try {
      const found = await get("/v1/search", { text });
      if (mine === newest) draw(text, found);
    } catch (error) {
      if (mine === newest) fill(result, h("p", { class: "said bad", role: "alert" }, error.message));
    }
  }

  function draw(text, { cards, holder }) {
    const known = cards.filter((card) => card.known.length > 0);
    fill(result,
      holder && h("section", { "aria-labelledby": "holder" },
        h("h2", { id: "holder" }, `${t("holder")} ${holder.holder}`),
        h("ul", { class: "verdicts" }, holder.cards.map((card) => cardItem(card)))),
      known.length > 0 && h("section", { "aria-labelledby": "cards" },
        h("h2", { id: "cards" }, t("card")),
        h("ul", { class: "verdicts" }, known.map((card) => cardItem(card, card.spelling)))),
      !holder && known.length === 0 && h("p", { class: "said warn" }, t("not_found").replace("TEXT", text)));
  }

  if (begun) look(begun);
  else input.focus();
  return { update() {} };
}

const may = (op) => (state.session.may ?? []).includes(op);

function cardItem(card, spelling) {
  const owner = card.known.find(({ holder }) => holder)?.holder;
  const proof = lazy(t("where_dead"), () => proofOf(card.uid));
  const link = (op, words, more) => may(op) && owner && h("a", { class: "button", href: `#/change/${op}/${encodeURIComponent(owner)}/${card.uid}` }, words, more);
  return h("li", { class: "card", "data-uid": card.uid },
    h("div", { class: "head" },
      h("span", { class: `tag ${card.dead ? "bad" : "good"}` }, t(card.dead ? "dead" : "alive")),
      h("h3", { class: "mono" }, card.uid),
      owner && h("span", null, owner),
      spelling && spelling !== "hex" && h("span", { class: "soft" }, `${t("read_as")} ${t(`spelling_${spelling}`)}`)),
    h("ul", { class: "steps" }, card.known.map((one) => h("li", null,
      h("strong", null, one.to === "campus" ? t("campus") : one.to), " ",
      one.flags.map((flag) => h("span", { class: "tag bad" }, t(`flag_${flag}`))), " ",
      one.enrolment ? enrolmentText(one.enrolment) : one.to !== "campus" && h("span", { class: "soft" }, t("not_enrolled"))))),
    card.dead && proof,
    lazy(t("what_ordered"), () => ordersOf(card.uid)),
    lazy(t("where_tried"), () => triesOf(card.uid)),
    h("div", { class: "tags" }, !card.dead && [link("reissue", t("reissue")), link("report_lost", t("report_lost"))], link("enrol", t("enrol"))));
}

/** What an enrolment permits, in words. */
export function enrolmentText({ role, entitlements, not_before: from, not_after: until }) {
  const zones = (kind) => entitlements.filter((one) => one.kind === kind).map(({ zone, schedule }) => (schedule ? `${zone} (${schedule})` : zone));
  const kinds = ["gate", "door", "power_box"].filter((kind) => zones(kind).length > 0);
  const parts = kinds.map((kind) => `${t(`kind_${kind}`)} ${zones(kind).join(", ")}`);
  return [t(`role_${role ?? "resident"}`), ...parts, from && `${t("valid_from")} ${time(from)}`, until && `${t("valid_until")} ${time(until)}`].filter(Boolean).join(" · ");
}

/** A part that is asked for when it is opened. */
function lazy(title, content) {
  const body = h("div");
  const details = h("details", { ontoggle: async () => {
    if (!details.open || body.hasChildNodes()) return;
    fill(body, t("loading"));
    try {
      fill(body, await content());
    } catch (error) {
      fill(body, h("p", { class: "said bad" }, error.message));
    }
  } }, h("summary", null, title), body);
  return details;
}

async function proofOf(uid) {
  const { gateways, unknown } = await get(`/v1/cards/${uid}/proof`);
  const box = ({ portal, confirmed_at: at }) => ` · ${portal}: ${at ? `${t("confirmed_off")} ${time(at)}` : t("unconfirmed")}`;
  return h("ul", { class: "steps" }, gateways.map((one) => h("li", { "data-gateway": one.gateway },
    h("span", { class: `tag ${one.known_by ? "good" : "warn"}` }, t(one.known_by ? "dead_there" : "not_known_yet")), " ",
    h("strong", null, one.gateway), one.dead_since && ` ${time(one.dead_since)}`,
    one.known_by && h("span", { class: "soft" }, ` · ${t(`known_by_${one.known_by}`)}`), one.boxes.map(box))),
  unknown.length > 0 && h("li", { class: "against" }, t("unknown_hint")));
}

async function ordersOf(uid) {
  const { items } = await get("/v1/changes", { uid, order: "desc", limit: ORDERS });
  const names = (op) => [op.uid, op.old_uid, op.new_uid].includes(uid);
  const what = (ops) => (ops ? ops.filter(names).map(({ op }) => t(op)).join(", ") : t("whole_list"));
  return h("ul", { class: "steps" }, items.map(({ gateway, received_at: at, item }) => h("li", null,
    h("strong", null, what(item.ops)), ` ${gateway === "campus" ? t("campus") : gateway} · ${item.ordered_by ?? t("not_recorded")} `,
    h("span", { class: "soft" }, `${time(at)} · ${item.stream} ${item.epoch}.${item.seq}`))));
}

async function triesOf(uid) {
  const { items } = await get("/v1/audit", { uid, type: "decision", order: "desc", limit: TRIES });
  if (items.length === 0) return h("p", { class: "soft" }, t("no_tries"));
  return h("ul", { class: "steps" }, items.map(({ gateway, item }) => h("li", null,
    h("span", { class: `tag ${item.decision === "grant" ? "good" : "bad"}` }, t(item.decision)), " ",
    h("strong", null, `${gateway} ${item.portal ?? ""}`), ` ${meaning(item.reason)} `, h("span", { class: "soft" }, time(item.at)))));
}
