// Builds elements. Text is only ever text: nothing that comes from the gateway is read as HTML.

/** An element: `h("p", { class: "soft" }, "text", other)`. A property `on…` is a listener; `null` and `false` are left out. */
export function h(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  add(element, children);
  return element;
}

function add(element, children) {
  for (const child of children.flat(9)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
}

/** Puts new children in place of the old ones. */
export function fill(element, ...children) {
  element.replaceChildren();
  add(element, children);
  return element;
}

const FIELDS = "input[name], select[name]";
/** Whether a person has put something else into a field than it began with. */
const isChanged = (field) => {
  if (field.type === "file") return field.files.length > 0;
  if (field.type === "checkbox") return field.checked !== field.defaultChecked;
  if (field.matches("select")) return field.value !== ([...field.options].find((option) => option.defaultSelected) ?? field.options[0])?.value;
  return field.value !== field.defaultValue;
};

/** What a person has typed or chosen in `from` and not sent yet is in `to` too, which was made in its place. */
export function carry(from, to) {
  const places = new Map();
  for (const field of to.querySelectorAll(FIELDS)) places.set(field.name, [...(places.get(field.name) ?? []), field]);
  for (const field of from.querySelectorAll(FIELDS)) {
    const place = places.get(field.name)?.shift();
    if (!place || place.type !== field.type || !isChanged(field)) continue;
    if (field.type === "file") place.files = field.files;
    else if (field.type === "checkbox") place.checked = field.checked;
    else if (!field.matches("select") || [...place.options].some(({ value }) => value === field.value)) place.value = field.value;
    place.dispatchEvent(new Event("input", { bubbles: true }));
  }
}

const CONTROLS = "button, a[href], select, input, summary";

/** Gives the focus to the control of `to` that stands for `focused` of `from`: of the same words, or at its place. */
function refocus(from, to, focused) {
  const all = [...to.querySelectorAll(CONTROLS)];
  const same = (one) => one.tagName === focused.tagName && (focused.name ? one.name === focused.name : one.textContent === focused.textContent);
  (all.find(same) ?? all[[...from.querySelectorAll(CONTROLS)].indexOf(focused)] ?? all[0])?.focus({ preventScroll: true });
}

/** Keeps one child of `list` for each item, in order: whoever has the focus keeps it while others come and go. `make(item)` gives
 *  the element, `text(item)` what it shows; it is made again only when that has changed, with what a person has begun to fill in. */
export function keep(list, items, key, text, make) {
  const old = new Map([...list.children].map((child) => [child.dataset.key, child]));
  let place = list.firstElementChild;
  for (const item of items) {
    const name = String(key(item));
    const shown = text(item);
    let child = old.get(name);
    old.delete(name);
    if (!child || child.dataset.shown !== shown) {
      const made = make(item);
      made.dataset.key = name;
      made.dataset.shown = shown;
      if (child) {
        const focused = child.contains(document.activeElement) ? document.activeElement : null;
        if (place === child) place = made;
        carry(child, made);
        child.replaceWith(made);
        if (focused) refocus(child, made, focused);
      }
      child = made;
    }
    if (place === child) place = child.nextElementSibling;
    else list.insertBefore(child, place);
  }
  old.forEach((child) => child.remove());
}

/** A name of the gateway beside its words: what the documents and the command line have. */
export const code = (name) => name && h("code", { class: "code" }, name);

/** A field that shows only what has its text in it; calls `changed` with what decides that about a text. */
export function filter(label, changed) {
  const input = h("input", { type: "search", autocomplete: "off", maxlength: "128", oninput: () => {
    const wanted = input.value.trim().toLowerCase();
    changed((...texts) => texts.some((text) => text?.toLowerCase().includes(wanted)));
  } });
  return h("label", { class: "field filter" }, label, input);
}

/** A field with its label. */
export function field(text, input, more) {
  return h("label", { class: `field ${more ?? ""}` }, text, input);
}

/** Asks in a dialog; gives what `read` gives for the form, or `null` when the person goes back. */
export function ask({ title, body, yes, no, risk, read }) {
  return new Promise((done) => {
    let answer = null;
    const name = `title-${Math.random().toString(36).slice(2)}`;
    const form = h("form", { method: "dialog" },
      h("h2", { id: name }, title),
      body,
      h("div", { class: "buttons" },
        no && h("button", { type: "button", onclick: () => dialog.close() }, no),
        h("button", { type: "submit", class: risk ? "risk" : "main" }, yes)));
    const dialog = h("dialog", { "aria-labelledby": name }, form);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      answer = read ? read(form) : true;
      dialog.close();
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      done(answer);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
