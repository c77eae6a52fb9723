// *Change*: the orders of an office. Each is confirmed, sent once, and followed until every gateway has answered.
import { ask, field, fill, h } from "./dom.js";
import { state } from "./live.js";
import { clearWrong, follow, gatewayField, sender, showWrong } from "./order.js";
import { t } from "./words.js";

const STANDING = ["report_lost", "found", "freeze", "unfreeze", "cancel", "reinstate"];
const ROLES = ["resident", "staff", "visitor"];
const KINDS = ["gate", "door", "power_box"];

/** Orders that are shown at once; of more the oldest go. */
const SHOWN = 20;
/** What was ordered since the login, also when another page was looked at meanwhile. */
const orders = h("div", { class: "orders" });
let orderedBy = null;

const goesToAll = (op) => state.session.campus.includes(op);
const input = (name, label, value, more) =>
  field(label, h("input", { name, value: value || null, autocomplete: "off", spellcheck: "false", maxlength: "128", ...more }));
const card = (name, label, value, more) => input(name, label, value, { class: "mono", autocapitalize: "characters", ...more });
const byName = (path, own) => own.elements[path.split(/[.[]/)[0]];

export function show(main, { rest }) {
  const { who, client } = state.session;
  if (orderedBy !== `${who} ${client}`) fill(orders);
  orderedBy = `${who} ${client}`;
  const [begun = "", holder = "", uid = ""] = rest;
  const may = (op) => state.session.may.includes(op);
  const forms = [
    may("reissue") && reissue({ holder, old_uid: uid }),
    STANDING.some(may) && standing(STANDING.filter(may), begun, uid),
    may("enrol") && enrol({ holder, uid }),
    may("withdraw") && withdraw(uid),
  ].filter(Boolean);
  fill(main, h("h2", null, t("page_change")),
    h("p", { class: "soft" }, t(forms.length > 0 ? "change_hint" : "may_change_nothing")),
    orders, forms);
  const first = { reissue: "reissue", enrol: "enrol" }[begun] ?? (STANDING.includes(begun) ? "standing" : null);
  if (first) main.querySelector(`form[data-form=${first}] input:not([value]), form[data-form=${first}] button`)?.focus();

  /** A form that orders one op. `read` gives the op, `input` the field of a path in it; `means` what is asked back. */
  function form({ name, fields, campus, read, input, means, risk, button: words }) {
    const send = sender();
    const target = campus ? null : gatewayField(state.gateways.keys());
    const own = h("form", { class: "change", "data-form": name, novalidate: true, onsubmit: submit },
      h("div", { class: "row" }, fields, target), h("div", { class: "buttons" }, h("button", { type: "submit", class: "main" }, words ?? t(name))));
    const field = (path) => {
      if (path === "gateway") return own.elements.gateway ?? null;
      return input(path.replace(/^ops\[0\]\.?/, ""), own) ?? null;
    };
    async function submit(event) {
      event.preventDefault();
      clearWrong(own);
      const data = Object.fromEntries([...new FormData(own)].map(([key, value]) => [key, value.trim()]));
      const missing = [...own.elements].find((element) => element.required && !element.value.trim());
      if (missing) {
        return showWrong(own, { field: missing.name, code: "missing", message: missing.closest("label").firstChild.textContent }, () => missing);
      }
      // A date of which a part is not filled in has no value, and would be no date at all.
      const half = [...own.elements].find((element) => element.validity?.badInput);
      if (half) return showWrong(own, { field: half.name, code: "incomplete", message: half.closest("label").firstChild.textContent }, () => half);
      const op = read(data);
      // A card that is enrolled for no zone is wanted by nobody who fills in this form; `withdraw` is for that.
      if (op.entitlements?.length === 0) return showWrong(own, { field: "ops[0].entitlements", code: "missing", message: t("zones") }, field);
      const title = `${t(op.op)}: ${[op.holder, op.old_uid, op.new_uid ?? op.uid].filter(Boolean).join(" → ")}`;
      const yes = await ask({ title, body: h("p", null, means(op), " ", campus ? t("goes_to_all") : `${t("goes_to")} ${data.gateway}.`), yes: t("send"), no: t("back"), risk });
      if (!yes) return;
      const button = own.querySelector("button[type=submit]");
      button.setAttribute("aria-busy", "true");
      try {
        const sent = await send("/v1/changes", { ...(campus ? {} : { gateway: data.gateway }), ops: [op] });
        if (sent) {
          orders.prepend(follow(title, sent));
          while (orders.children.length > SHOWN) orders.lastElementChild.remove();
          own.reset();
          // The values that the page began with are used up.
          own.querySelectorAll("input[value]").forEach((input) => { input.value = ""; });
          orders.scrollIntoView({ block: "nearest" });
        }
      } catch (error) {
        showWrong(own, error, field);
      }
      button.removeAttribute("aria-busy");
    }
    return h("section", { "aria-labelledby": `form-${name}` }, h("h2", { id: `form-${name}` }, t(name)), own);
  }

  function reissue({ holder, old_uid: old }) {
    return form({
      name: "reissue", campus: goesToAll("reissue"), risk: true, input: byName, means: () => t("reissue_means"),
      fields: [input("holder", t("holder"), holder, { required: true }), card("new_uid", t("new_uid"), "", { required: true }), card("old_uid", t("old_uid"), old)],
      read: ({ holder, new_uid: to, old_uid: from }) => ({ op: "reissue", holder, new_uid: to, ...(from ? { old_uid: from } : {}) }),
    });
  }

  function standing(ops, begun, uid) {
    const choice = h("select", { name: "op" }, ops.map((op) => h("option", { value: op, selected: op === begun }, t(op))));
    return form({
      name: "standing", button: t("go_on"), campus: goesToAll(ops[0]), risk: true, input: byName, means: (op) => t(`${op.op}_means`),
      fields: [card("uid", t("card"), STANDING.includes(begun) ? uid : "", { required: true }), field(t("what"), choice)],
      read: ({ op, uid }) => ({ op, uid }),
    });
  }

  function enrol({ holder, uid }) {
    const places = h("fieldset", { class: "row" }, h("legend", null, t("zones")), KINDS.map((kind) => input(kind, t(`kind_${kind}`), "", { placeholder: kind === "gate" ? "*" : "412, 413" })));
    const roles = h("select", { name: "role" }, ROLES.map((role) => h("option", { value: role }, t(`role_${role}`))));
    const zones = (data) => KINDS.flatMap((kind) => data[kind].split(/[,，\s]+/).filter(Boolean).map((zone) => ({ kind, zone })));
    return form({
      name: "enrol", campus: goesToAll("enrol"), means: () => t("enrol_means"),
      fields: [
        card("uid", t("card"), begun === "enrol" ? uid : "", { required: true }), input("holder", t("holder"), begun === "enrol" ? holder : "", { required: true }),
        field(t("role"), roles), input("not_after", t("valid_until"), "", { type: "datetime-local" }), places,
      ],
      // `entitlements[1].zone` is a zone of one of the kinds.
      input: (path, own) => {
        const place = /^entitlements(?:\[(\d+)\])?/.exec(path);
        if (!place) return byName(path, own);
        const all = zones(Object.fromEntries(new FormData(own)));
        return own.elements[all[place[1] ?? 0]?.kind ?? "gate"];
      },
      read: (data) => ({
        op: "enrol", uid: data.uid, holder: data.holder, entitlements: zones(data),
        ...(data.role === "resident" ? {} : { role: data.role }),
        ...(data.not_after ? { not_after: new Date(data.not_after).toISOString().replace(/\.\d+/, "") } : {}),
      }),
    });
  }

  function withdraw() {
    return form({
      name: "withdraw", campus: goesToAll("withdraw"), risk: true, input: byName, means: () => t("withdraw_means"),
      fields: [card("uid", t("card"), "", { required: true })],
      read: ({ uid }) => ({ op: "withdraw", uid }),
    });
  }
  return { update() {} };
}
