// *List*: the whole list of a building as a spreadsheet saved as CSV. What it would change is shown before anything is sent.
import { post, target } from "./api.js";
import { ask, field, fill, h } from "./dom.js";
import { state } from "./live.js";
import { enrolmentText } from "./card.js";
import { faultWords, refusedWords } from "./faults.js";
import { clearWrong, follow, gatewayField, sender, showWrong } from "./order.js";
import { t } from "./words.js";

/** Cards of a plan that are shown. */
const SHOWN = 200;

export function show(main) {
  const campus = state.session.campus.includes("enrol");
  const send = sender();
  const file = h("input", { name: "file", type: "file", accept: ".csv,text/csv", required: true });
  const ignore = h("input", { name: "ignore", autocomplete: "off", maxlength: "512" });
  const shrink = h("input", { name: "allow_shrink", type: "checkbox" });
  const result = h("div");
  const form = h("form", { class: "change", novalidate: true, onsubmit: plan, oninput: () => fill(result) },
    h("div", { class: "row" },
      !campus && gatewayField(state.gateways.keys()), field(t("csv_file"), file, "wide"), field(t("ignore_columns"), ignore),
      h("label", { class: "bar" }, shrink, t("allow_shrink"))),
    h("div", { class: "buttons" }, h("button", { type: "submit", class: "main" }, t("show_plan"))));
  fill(main, h("h2", null, t("page_sheet")),
    state.session.loads ? [h("p", { class: "soft" }, t("sheet_hint")), form, result] : h("p", null, t("may_not_load")));

  const path = (dry) => target("/v1/sheet", { gateway: form.elements.gateway?.value, ignore: ignore.value.trim(), allow_shrink: shrink.checked, dry_run: dry });
  const input = (name) => form.elements[name] ?? null;
  let newest = 0;

  async function plan(event) {
    event.preventDefault();
    clearWrong(form);
    if (!file.files[0]) return showWrong(form, { field: "file", code: "missing", message: t("csv_file") }, input);
    const mine = ++newest;
    fill(result, h("p", { role: "status" }, t("loading")));
    try {
      // In memory, so that what is sent is what was shown.
      const bytes = new Blob([await file.files[0].arrayBuffer()], { type: "text/csv" });
      const { plan } = await post(path(true), bytes, { "content-type": "text/csv" });
      if (mine === newest) fill(result, ...draw(plan, bytes));
    } catch (error) {
      if (mine !== newest) return;
      fill(result, error.faults && faults(error.faults));
      if (error.faults) error.message = refusedWords(error.message, error.faults);
      showWrong(form, error, error.faults ? () => file : input);
    }
  }

  function draw(plan, bytes) {
    const counts = ["unchanged", "updated", "added", "withdrawn"];
    const nothing = plan.changes.length === 0;
    const button = h("button", { class: plan.withdrawn > 0 ? "risk" : "main", disabled: nothing, onclick: publish }, t("send_list"));
    async function publish() {
      const title = `${t("send_list")}: ${form.elements.gateway?.value ?? t("campus")}`;
      const words = counts.map((name) => `${plan[name]} ${t(`plan_${name}`)}`).join(", ");
      if (!(await ask({ title, body: h("p", null, `${words}. ${t("list_means")}`), yes: t("send"), no: t("back"), risk: plan.withdrawn > 0 }))) return;
      clearWrong(form);
      button.setAttribute("aria-busy", "true");
      try {
        const sent = await send(path(null), bytes);
        if (sent) {
          fill(result, follow(title, sent));
          form.reset();
        }
      } catch (error) {
        showWrong(form, error, input);
      }
      button.removeAttribute("aria-busy");
    }
    const more = plan.changes.length - SHOWN;
    return [
      h("h2", { id: "plan" }, t("plan")),
      h("div", { class: "tags", role: "status" }, counts.map((name) => h("span", { class: `tag ${name === "withdrawn" && plan[name] > 0 ? "bad" : ""}`, "data-count": name }, `${plan[name]} ${t(`plan_${name}`)}`))),
      !nothing && h("div", { class: "table", tabindex: "0", role: "region", "aria-labelledby": "plan" }, h("table", null,
        h("thead", null, h("tr", null, ["kind", "card", "holder", "before", "after"].map((name) => h("th", { scope: "col" }, t(`plan_${name}`))))),
        h("tbody", null, plan.changes.slice(0, SHOWN).map(row)))),
      more > 0 && h("p", { class: "soft" }, `${more} ${t("more_changes")}`),
      nothing && h("p", null, t("changes_nothing")),
      h("div", { class: "buttons" }, button),
    ];
  }
  return { update() {} };
}

function row({ uid, from, to }) {
  const kind = !from ? "added" : !to ? "withdrawn" : "updated";
  const text = (one) => (one ? enrolmentText(one) : "—");
  const holders = [from?.holder, to?.holder].filter((holder, place, all) => holder && all.indexOf(holder) === place);
  return h("tr", null,
    h("td", null, h("span", { class: `tag ${kind === "withdrawn" ? "bad" : kind === "added" ? "good" : ""}` }, t(`plan_${kind}`))),
    h("td", { class: "mono" }, uid), h("td", null, holders.join(" → ")), h("td", null, text(from)), h("td", null, text(to)));
}

/** What is wrong with the sheet, line by line. */
function faults(all) {
  return [h("h2", { id: "faults" }, t("faults")),
    h("div", { class: "table", tabindex: "0", role: "region", "aria-labelledby": "faults" }, h("table", null,
      h("thead", null, h("tr", null, ["line", "column", "what"].map((name) => h("th", { scope: "col" }, t(`fault_${name}`))))),
      h("tbody", null, all.map(({ line, column, what }) => h("tr", null, h("td", null, line ?? "—"), h("td", null, column ?? "—"), h("td", null, faultWords(what)))))))];
}
