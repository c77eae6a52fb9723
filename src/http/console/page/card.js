// *Card*: a UID in any spelling; what every portal would decide, why, which change set that, and what to do.
import { get } from "./api.js";
import { code, field, fill, filter, h } from "./dom.js";
import { said } from "./facts.js";
import { state } from "./live.js";
import { kind, language, meaning, remedy, t, time } from "./words.js";

export function show(main, { rest }) {
  const input = h("input", { name: "text", value: rest, autocomplete: "off", autocapitalize: "characters", spellcheck: "false", required: true, maxlength: "128", class: "mono" });
  const result = h("div", { "aria-live": "polite" });
  const form = h("form", { class: "row", onsubmit: (event) => { event.preventDefault(); look(input.value); } },
    field(t("card_label"), input, "wide"),
    h("button", { class: "main", type: "submit" }, t("look_up")));
  fill(main, h("h2", null, t("page_card")), h("p", { class: "soft" }, t("card_hint")), form, result);

  let newest = 0;
  async function look(text) {
    const mine = ++newest;
    fill(result, h("p", null, t("loading")));
    try {
      const answer = await get("/api/v1/card", { text });
      if (mine === newest) draw(answer);
    } catch (error) {
      if (mine === newest) fill(result, h("p", { class: "said bad" }, error.message));
    }
  }

  function draw(answer) {
    const verdicts = [...answer.verdicts].sort((a, b) => (a.decision === b.decision ? 0 : a.decision === "grant" ? -1 : 1));
    const items = verdicts.map((verdict) => item(answer.uid, verdict));
    const only = filter(t("filter"), (wanted) => items.forEach((shown) => { shown.hidden = !wanted(shown.dataset.portal, shown.dataset.zone); }));
    const others = answer.others.map((other) =>
      h("button", { onclick: () => { input.value = other.uid; look(other.uid); } },
        `${other.uid} (${t(`spelling_${other.spelling}`)}, ${t(other.known ? "known" : "unknown")})`));
    fill(result,
      h("h2", null, h("span", { class: "mono" }, answer.uid)),
      h("p", { class: "soft" }, `${t("read_as")} ${t(`spelling_${answer.spelling}`)} · ${t(answer.known ? "known" : "unknown")}`),
      others.length > 0 && h("p", null, t("or_is_it"), " ", others),
      items.length > 1 && only,
      h("ul", { class: "verdicts" }, items),
      revocations(answer.revocations ?? []));
  }

  if (rest) look(rest);
  else input.focus();
  return { update() {} };
}

function item(uid, verdict) {
  const granted = verdict.decision === "grant";
  const portal = state.portals.get(verdict.portal);
  const words = (verdict.words ?? {})[language()] ?? meaning(verdict.reason);
  const todo = (verdict.remedy ?? {})[language()] ?? (granted ? "" : remedy(verdict.reason));
  const steps = h("ul", { class: "steps" });
  const details = h("details", { ontoggle: () => details.open && !steps.hasChildNodes() && why(uid, verdict.portal, steps) },
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
        step.set_by && h("span", { class: "soft" }, ` · ${t("set_by")} ${step.set_by.stream} ${step.set_by.revision.join(".")}`,
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
