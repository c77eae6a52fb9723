// *Doors and boxes*: orders to portals. Each is confirmed, and is in the audit with who gave it.
import { post } from "./api.js";
import { ask, field, fill, filter, h, keep } from "./dom.js";
import { state } from "./live.js";
import { look, tags } from "./now.js";
import { kind, t } from "./words.js";

const POSTURES = ["secure", "free_access", "lockdown", "out_of_service", "fire"];

export function show(main, { said }) {
  const notice = h("p");
  const tiles = h("ul", { class: "tiles" });
  const whole = h("div", { class: "whole" });
  const none = h("p", { class: "soft" });
  let wanted = () => true;
  const only = filter(t("filter"), (matches) => { wanted = matches; update(); });
  let everywhere = null;
  fill(main,
    h("h2", null, t("page_doors")), notice, whole,
    h("section", { "aria-labelledby": "each" }, h("h2", { id: "each" }, t("portals")), only, none, tiles));

  async function order(title, words, body, risk) {
    const yes = await ask({ title, body: [words].flat().map((line) => h("p", null, line)), yes: title, no: t("back"), risk });
    if (!yes) return;
    try {
      await post("/api/v1/orders", body);
      said(`${title}: ${t("done")}`, "good");
    } catch (error) {
      said(`${title}: ${error.message}`, "bad");
    }
  }

  const choice = (name, label, current) =>
    field(label, h("select", { name }, POSTURES.map((posture) => h("option", { value: posture, selected: posture === current }, t(`posture_${posture}`)))));

  /** The posture of all portals, if they have the same. */
  function common() {
    const all = new Set([...state.portals.keys()].map((id) => look(id).posture));
    return all.size === 1 ? [...all][0] : "secure";
  }

  /** What a posture means: of a power box it is about power. */
  const means = (posture, box) => t(box && ["lockdown", "out_of_service"].includes(posture) ? `box_${posture}_means` : `posture_${posture}_means`);

  /** What a posture of every portal means: it is one of the power boxes too. */
  function meansEverywhere(posture) {
    const boxes = [...state.portals.values()].filter((portal) => portal.kind === "power_box").length;
    const cuts = boxes > 0 && ["lockdown", "out_of_service"].includes(posture);
    return [means(posture), ...(cuts ? [t("power_cut_too").replace("COUNT", boxes)] : [])];
  }

  function tile(portal) {
    const box = portal.kind === "power_box";
    const button = (name, risk, body) =>
      h("button", { class: risk ? "risk" : null, onclick: () => order(`${t(name)}: ${portal.id}`, t(`${name}_means`), body, risk) }, t(name));
    const suspended = look(portal.id).posture === "out_of_service";
    const posture = h("form", { class: "row", onsubmit: (event) => {
      event.preventDefault();
      const chosen = new FormData(posture).get("posture");
      order(`${t(`posture_${chosen}`)}: ${portal.id}`, means(chosen, box), { order: "posture", portals: [portal.id], posture: chosen }, chosen !== "secure");
    } }, choice("posture", `${t("posture")}: ${portal.id}`, look(portal.id).posture), h("button", { type: "submit" }, t("set")));
    return h("li", { class: "card" },
      h("h3", null, portal.id),
      h("p", { class: "soft" }, `${kind(portal.kind)} · ${portal.zone}`),
      tags(portal, look(portal.id)),
      h("div", { class: "tags" },
        box ? [button("power_on", true, { order: "power", portal: portal.id, on: true }), button("power_off", true, { order: "power", portal: portal.id, on: false }),
          suspended ? button("resume", false, powerOf([portal], true)) : button("suspend", true, powerOf([portal], false))]
          : button("release", true, { order: "release", portal: portal.id })),
      posture);
  }

  /** Power of several boxes, suspended or not. A suspension by a center is the center's; this is the posture of the box. */
  const powerOf = (boxes, on) =>
    ({ order: "posture", portals: boxes.map((box) => box.id), posture: on ? "secure" : "out_of_service" });

  function zonePower() {
    const zones = new Map();
    for (const portal of state.portals.values()) {
      if (portal.kind === "power_box") zones.set(portal.zone, [...(zones.get(portal.zone) ?? []), portal]);
    }
    if (zones.size === 0) return null;
    const options = [...zones].map(([zone, boxes]) => h("option", { value: zone }, `${zone} (${t("boxes")}: ${boxes.length})`));
    const form = h("form", { class: "row", onsubmit: (event) => {
      event.preventDefault();
      const zone = new FormData(form).get("zone");
      const name = event.submitter.value;
      order(`${t(name)}: ${zone}`, t(`${name}_means`), powerOf(zones.get(zone), name === "resume"), name === "suspend");
    } }, field(t("zone"), h("select", { name: "zone" }, options)),
      h("button", { type: "submit", value: "suspend", class: "risk" }, t("suspend")),
      h("button", { type: "submit", value: "resume" }, t("resume")));
    return h("section", { "aria-labelledby": "zone" }, h("h2", { id: "zone" }, t("zone_power")), form);
  }

  function everything() {
    const posture = h("form", { class: "row", onsubmit: (event) => {
      event.preventDefault();
      const chosen = new FormData(posture).get("posture");
      order(`${t(`posture_${chosen}`)}: ${t("every_portal")}`, meansEverywhere(chosen), { order: "posture", posture: chosen }, true);
    } }, choice("posture", `${t("posture")}: ${t("every_portal")}`, common()), h("button", { type: "submit", class: "risk" }, t("set")));
    everywhere = posture.querySelector("select");
    const fire = h("form", { class: "row", onsubmit: (event) => {
      event.preventDefault();
      const force = new FormData(fire).get("force") === "on";
      order(t("fire_reset"), t("fire_reset_means"), { order: "fire_reset", force }, true);
    } }, h("label", { class: "bar" }, h("input", { type: "checkbox", name: "force" }), t("fire_force")), h("button", { type: "submit", class: "risk" }, t("fire_reset")));
    const forgive = h("form", { class: "row", onsubmit: (event) => {
      event.preventDefault();
      const uid = new FormData(forgive).get("uid").trim();
      order(`${t("forgive")}: ${uid}`, t("forgive_means"), { order: "forgive", uid }, false);
    } }, field(t("forgive_label"), h("input", { name: "uid", required: true, maxlength: "64", autocomplete: "off", class: "mono" })), h("button", { type: "submit" }, t("forgive")));
    return [
      zonePower(),
      h("section", { "aria-labelledby": "every" }, h("h2", { id: "every" }, t("every_portal")), posture),
      h("section", { "aria-labelledby": "fire" }, h("h2", { id: "fire" }, t("fire_reset")), fire),
      h("section", { "aria-labelledby": "forgive" }, h("h2", { id: "forgive" }, t("forgive")), forgive),
    ];
  }

  function update() {
    const may = state.session.changes;
    if (notice.dataset.shown !== String(may)) {
      notice.dataset.shown = String(may);
      fill(notice, may ? t("orders_are_audited") : t(state.session.can_log_in ? "login_to_order" : "no_token"));
      fill(whole, may && everything());
    }
    only.hidden = !may;
    if (!may) return fill(tiles);
    // What is in force is chosen, until somebody chooses.
    const now = common();
    if (everywhere.dataset.shown !== now && document.activeElement !== everywhere) {
      everywhere.dataset.shown = now;
      everywhere.value = now;
    }
    const listed = [...state.portals.values()].filter((portal) => wanted(portal.id, portal.zone));
    none.textContent = listed.length === 0 && state.portals.size > 0 ? t("none_match") : "";
    keep(tiles, listed, (portal) => portal.id, (portal) => JSON.stringify([look(portal.id).online, look(portal.id).on, look(portal.id).posture]), tile);
  }
  update();
  return { update };
}
