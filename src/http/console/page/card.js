// *Card*: a UID in any spelling; what every portal would decide, why, which change set that, and what to do. A portal or a room after
// the UID, typed or in the address, is shown first, and why.
import { get } from "./api.js";
import { code, field, fill, filter, h } from "./dom.js";
import { said } from "./facts.js";
import { state } from "./live.js";
import { kind, language, meaning, remedy, t, time } from "./words.js";

/** The portals that a name means: one, or those of a room. */
const meant = (name) => [...state.portals.values()].filter(({ id, zone }) => [id, zone].some((one) => one?.toLowerCase() === name.toLowerCase()));

/** What a person typed: the text of the card, and the portal or room after it, if that is one; else, what may have been meant as one.
 * Two hex digits are a byte of a UID. */
function read(text) {
  const [, uid, place = ""] = /^(.+?)\s+(\S+)$/.exec(text.trim()) ?? [];
  const isPlace = place && !/^[0-9a-f]{2}$/i.test(place);
  return isPlace && meant(place).length > 0 ? [uid, place] : [text.trim(), "", isPlace ? place : ""];
}

/** From here on the last number of a revision is no place in a message: a list of the center set it, behind all ops of that message. */
const BEHIND_ALL = 4294967294;
const revision = (numbers) => numbers.filter((number, at) => at < 2 || number < BEHIND_ALL).join(".");

export function show(main, { rest: [begun = "", at = ""] }) {
  const input = h("input", { name: "text", value: at ? `${begun} ${at}` : begun, autocomplete: "off", autocapitalize: "characters", spellcheck: "false", required: true, maxlength: "128", class: "mono" });
  const result = h("div", { "aria-live": "polite" });
  const form = h("form", { class: "row", onsubmit: (event) => { event.preventDefault(); look(...read(input.value)); } },
    field(t("card_label"), input, "wide"),
    h("button", { class: "main", type: "submit" }, t("look_up")));
  fill(main, h("h2", null, t("page_card")), h("p", { class: "soft" }, t("card_hint")), form, result);

  let newest = 0;
  async function look(uid, place, unknown) {
    const mine = ++newest;
    // It is found again after a reload, and on the way back.
    history.replaceState(null, "", ["#/card", uid, place].filter(Boolean).map((part, n) => (n ? encodeURIComponent(part) : part)).join("/"));
    fill(result, h("p", null, t("loading")));
    try {
      const answer = await get("/api/v1/card", { text: uid });
      if (mine === newest) draw(answer, meant(place).map(({ id }) => id));
    } catch (error) {
      if (mine === newest) fill(result, unknown && h("p", { class: "said bad" }, t("no_place").replace("PLACE", unknown)), h("p", { class: "said bad" }, error.message));
    }
  }

  function draw(answer, first) {
    const rank = ({ portal, decision }) => (first.includes(portal) ? 0 : 2) + (decision === "grant" ? 0 : 1);
    const verdicts = [...answer.verdicts].sort((a, b) => rank(a) - rank(b));
    // Of a room what denies is asked for.
    const asked = verdicts.filter(({ portal }) => first.includes(portal));
    const open = asked.find(({ decision }) => decision !== "grant") ?? asked[0];
    const items = verdicts.map((verdict) => item(answer.uid, verdict, verdict === open));
    const only = filter(t("filter"), (wanted) => items.forEach((shown) => { shown.hidden = !wanted(shown.dataset.portal, shown.dataset.zone); }));
    const others = answer.others.map((other) =>
      h("button", { onclick: () => { input.value = other.uid; look(other.uid, ""); } },
        `${other.uid} (${t(`spelling_${other.spelling}`)}, ${t(other.known ? "known" : "unknown")})`));
    fill(result,
      h("h2", null, h("span", { class: "mono" }, answer.uid)),
      h("p", { class: "soft" }, `${t("read_as")} ${t(`spelling_${answer.spelling}`)} · ${t(answer.known ? "known" : "unknown")}`),
      others.length > 0 && h("p", null, t("or_is_it"), " ", others),
      items.length > 1 && only,
      h("ul", { class: "verdicts" }, items),
      revocations(answer.revocations ?? []));
  }

  if (begun) {
    // In an address the place is apart, also one that is spelled like a byte of the card.
    look(...(meant(at).length > 0 ? [begun, at] : read(input.value)));
  } else {
    input.focus();
    // A reader types before the portal.
    input.setSelectionRange(0, 0);
  }
  return { update() {} };
}

function item(uid, verdict, open) {
  const granted = verdict.decision === "grant";
  const portal = state.portals.get(verdict.portal);
  const words = (verdict.words ?? {})[language()] ?? meaning(verdict.reason);
  const todo = (verdict.remedy ?? {})[language()] ?? (granted ? "" : remedy(verdict.reason));
  const steps = h("ul", { class: "steps" });
  const details = h("details", { open, ontoggle: () => details.open && !steps.hasChildNodes() && why(uid, verdict.portal, steps) },
    h("summary", null, `${t("why")}: ${verdict.portal}`), steps);
  return h("li", { class: "card", "data-portal": verdict.portal, "data-zone": portal?.zone },
    h("div", { class: "head" },
      h("span", { class: `tag ${granted ? "good" : "bad"}` }, t(granted ? "grant" : "deny")),
      h("h3", null, verdict.portal),
      portal && h("span", { class: "soft" }, `${kind(portal.kind)} · ${portal.zone}`)),
    h("p", { class: "means" }, words, " ", code(verdict.reason)),
    todo && h("p", { class: "todo" }, h("strong", null, `${t("what_to_do")}: `), todo),
    verdict.also?.length > 0 && h("p", { class: "soft" }, `${t("also")}: ${verdict.also.map(meaning).join("; ")}`),
    (verdict.flags ?? []).map((flag) => h("p", { class: "soft" }, code(flag.flag), ` ${flag.words[language()]} — ${flag.remedy[language()]}`)),
    details);
}

/** Every step of the decision, with the change that set it. */
async function why(uid, portal, steps) {
  fill(steps, h("li", null, t("loading")));
  try {
    const answer = await get("/api/v1/card", { text: uid, portal });
    // What is against it first.
    const all = [...(answer.verdicts[0]?.steps ?? [])].sort((a, b) => a.ok - b.ok);
    fill(steps, all.map((step) =>
      h("li", { class: step.ok ? null : "against" },
        h("span", { class: `tag ${step.ok ? "good" : "bad"}` }, t(step.ok ? "holds_not_against" : "is_against")), " ",
        step.ok ? h("span", { class: "mono" }, step.step) : [h("strong", null, meaning(step.step)), " ", code(step.step)],
        step.fact && h("span", null, ` · ${said(step.fact)}`),
        step.set_by && h("span", { class: "soft" }, ` · ${t("set_by")} ${step.set_by.stream} ${revision(step.set_by.revision)}`,
          step.set_by.at && `, ${time(step.set_by.at)}`))));
  } catch (error) {
    fill(steps, h("li", { class: "said bad" }, error.message));
  }
}

function revocations(proofs) {
  if (proofs.length === 0) return null;
  const place = (portal) => `${portal.portal}: ${portal.confirmed_at ? `${t("confirmed_off")} ${time(portal.confirmed_at)}` : t("unconfirmed")}`;
  return h("section", { "aria-labelledby": "revoked" },
    h("h2", { id: "revoked" }, t("revocations")),
    h("ul", { class: "verdicts" }, proofs.map((proof) =>
      h("li", { class: "card" },
        h("p", null, `${t("set_by")} ${proof.stream} ${proof.epoch}.${proof.seq} · ${t("received")} ${time(proof.received_at)} · ${t("in_force")} ${time(proof.in_force_at)}`),
        proof.portals.map((portal) => h("p", { class: "soft" }, place(portal)))))));
}
