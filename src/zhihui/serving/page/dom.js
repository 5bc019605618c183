// Elements: made of text, never of markup. Whatever a passage holds is shown as it is written.

/** Return an element with a class and children; strings become text. */
export function make(tag, name = "", ...children) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  element.append(...children);
  return element;
}

/** Return a bar that is filled by a share from 0 to 1; the number itself stands beside it. */
export function bar(share) {
  const filled = make("span");
  filled.style.width = `${(100 * Math.min(1, Math.max(0, share))).toFixed(1)}%`;
  const track = make("span", "bar", filled);
  track.ariaHidden = "true";
  return track;
}

/** Return a text as nodes, with marks at spans. Spans count characters, not the UTF-16 units of a string. */
export function marked(text, spans) {
  const characters = [...text];
  const nodes = [];
  let after = 0;
  for (const [start, end] of spans) {
    nodes.push(characters.slice(after, start).join(""), make("mark", "", characters.slice(start, end).join("")));
    after = end;
  }
  return [...nodes, characters.slice(after).join("")];
}

/** Put options into a select and keep what was chosen; groups are [label, [[value, text], ...]], label null for none. */
export function fill(select, groups) {
  const chosen = select.value;
  select.replaceChildren();
  for (const [label, options] of groups) {
    const into = label === null ? select : select.appendChild(make("optgroup"));
    if (label !== null) into.label = label;
    for (const [value, text] of options) into.append(new Option(text, value));
  }
  if (has(select, chosen)) select.value = chosen;
}

/** Whether a select has an option. */
export function has(select, value) {
  return [...select.options].some((option) => option.value === value);
}

/** Say how things stand, to eyes and to screen readers. */
export function tell(panel, text, bad = false) {
  const status = panel.querySelector(".status");
  status.classList.toggle("bad", bad);
  status.textContent = text;
}
