// *Audit*: what happened, the newest first; filtered, exported, and each event as it is chained.
import { get, target } from "./api.js";
import { ask, code, field, fill, h } from "./dom.js";
import { said } from "./facts.js";
import { state } from "./live.js";
import { flagTags } from "./now.js";
import { alarmWords, EVENT_TYPES, eventWords, FLAGS, meaning, t, time, typed } from "./words.js";

export function show(main) {
  const input = (name, more) => h("input", { name, autocomplete: "off", maxlength: "128", ...more });
  const option = (value, text) => h("option", { value }, text);
  const portals = h("select", { name: "portal" }, option("", t("all")), [...state.portals.keys()].map((id) => option(id, id)));
  const types = h("select", { name: "type" }, option("", t("all")), EVENT_TYPES.map((type) => option(type, eventWords(type))));
  const flags = h("select", { name: "flag" }, option("", t("all")), FLAGS.map((flag) => option(flag, meaning(flag))));
  const form = h("form", { class: "row", onsubmit: (event) => { event.preventDefault(); search(); } },
    field(t("portal"), portals),
    field(t("card"), input("uid", { class: "mono" })),
    field(t("holder"), input("holder")),
    field(t("type"), types),
    field(t("flag"), flags),
    field(t("since"), input("since", { type: "datetime-local" })),
    field(t("until"), input("until", { type: "datetime-local" })),
    h("button", { class: "main", type: "submit" }, t("search")),
    h("button", { type: "button", onclick: () => save("csv") }, "CSV"),
    h("button", { type: "button", onclick: () => save("jsonl") }, "JSON lines"));
  const rows = h("tbody");
  const caption = h("caption");
  const head = h("tr", null, ["n", "time", "type", "portal", "card", "holder", "what"].map((name) => h("th", { scope: "col" }, t(`col_${name}`))));
  const older = h("p");
  const wrong = h("p", { class: "said bad", role: "alert" });
  fill(main, h("h2", null, t("page_audit")), form, wrong,
    h("div", { class: "table", tabindex: "0", role: "region", "aria-label": t("page_audit") }, h("table", null, caption, h("thead", null, head), rows)), older);

  /** What the form asks for; times are those of the gateway's zone. */
  function query() {
    const asked = Object.fromEntries(new FormData(form));
    for (const name of ["since", "until"]) if (asked[name]) asked[name] = typed(asked[name]);
    return asked;
  }

  let newest = 0;
  async function search(before) {
    const mine = ++newest;
    if (before === undefined) {
      fill(rows);
      caption.textContent = "";
    }
    fill(wrong);
    fill(older, t("loading"));
    try {
      const found = await get("/api/v1/audit", { ...query(), before });
      if (mine !== newest) return;
      rows.append(...found.events.map(row));
      caption.textContent = `${rows.children.length} ${t("found")} · ${t("kept")} ${found.first}–${found.last}`;
      fill(older, found.before === undefined ? t("no_older")
        : h("button", { onclick: () => search(found.before) }, `${t("older")} (< ${found.before})`));
    } catch (error) {
      if (mine !== newest) return;
      fill(older);
      fill(wrong, error.message);
    }
  }

  /** Saves what the form asks for. What is wrong is shown here, and not in place of the page. */
  async function save(format) {
    fill(wrong);
    // A date of which a part is missing has no value: it would be no limit.
    if (!form.reportValidity()) return;
    try {
      await get("/api/v1/audit", { ...query(), before: 1 });
      const link = h("a", { href: target("/api/v1/audit/export", { ...query(), format }), download: "" });
      document.body.append(link);
      link.click();
      link.remove();
    } catch (error) {
      fill(wrong, error.message);
    }
  }

  search();
  return { update() {}, carried: () => search() };
}

/** What an event is about: its words, with its codes beside them. */
function what(event) {
  const decided = event.type === "decision";
  const at = Object.entries(event.revision ?? {}).map(([stream, [epoch, seq]]) => `${stream} ${epoch}.${seq}`);
  const reason = event.reason && (decided ? [meaning(event.reason), " ", code(event.reason)] : code(event.reason));
  const all = [
    event.decision && t(event.decision), reason,
    event.alarm && [alarmWords(event.alarm).means, " ", code(event.alarm)],
    event.posture && t(`posture_${event.posture}`), ...at,
    event.cut?.length > 0 && `${t("cut")}: ${event.cut.join(" ")}`,
    event.flags?.length > 0 && flagTags(event.flags), said(event.detail),
  ];
  return all.filter(Boolean).flatMap((part, place) => (place === 0 ? [part] : [" · ", part]));
}

function row(event) {
  const cell = (text, more) => h("td", { class: `tight ${more ?? ""}` }, text);
  const name = (text, more) => h("td", { class: `tight cut ${more ?? ""}`, title: text }, text);
  return h("tr", null,
    cell(h("button", { onclick: () => raw(event.n), "aria-label": `${t("show_event")} ${event.n}` }, event.n)),
    cell(time(event.at)),
    h("td", null, eventWords(event.type)),
    name(event.portal),
    cell(event.uid, "mono"),
    name(event.holder),
    h("td", { class: "what" }, what(event)));
}

/** The event as it is stored, so that its hash can be computed, and whether its hash agrees with the events next to it. */
async function raw(n) {
  let body;
  try {
    const { event, text, hash, before, after } = await get("/api/v1/audit/event", { n });
    const look = { holds: "good", broken: "bad", unknown: "warn" };
    const link = (name, holds) => h("span", { class: `tag ${look[holds]}` }, `${t(name)}: ${t(`chain_${holds}`)}`);
    body = [
      h("div", { class: "tags" }, link("chain_before", before), link("chain_after", after)),
      h("pre", { tabindex: "0" }, text),
      hash ? h("p", { class: "soft mono" }, `SHA-256 ${hash}`) : h("p", { class: "soft" }, t(event.type === "erased" ? "hash_of_erased" : "login_for_hash")),
    ];
  } catch (error) {
    body = h("p", { class: "said bad" }, error.message);
  }
  await ask({ title: `${t("event")} ${n}`, body, yes: t("close") });
}
