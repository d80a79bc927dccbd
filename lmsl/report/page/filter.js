"use strict";
(() => {
  const form = document.getElementById("filters");
  if (!form) return;
  const STEP = 40;
  const list = document.getElementById("list");
  const items = [...list.children];
  // Each error of a sentence is "model.kind.type", by index, each entity found "type.score", in
  // ten-thousandths; an empty choice fits all.
  const scored = list.dataset.parts === "type score";
  const parts = scored ? ["type"] : ["model", "kind", "type"];
  const keys = items.map((item) => item.dataset.e.split(" ").map((key) => key.split(".")));
  const score = (key) => (scored && key[1] ? Number(key[1]) / 10000 : 1e9);
  const lowest = keys.map((own) => Math.min(...own.map(score)));
  const shown = document.getElementById("shown");
  const none = document.getElementById("none");
  const more = document.getElementById("more");
  const choice = (name) => (form.elements[name] ? form.elements[name].value : "");
  let limit = STEP;

  function fitting() {
    const wanted = parts.map(choice), below = choice("below");
    const fits = (key) => wanted.every((value, part) => value === "" || value === key[part])
      && (below === "" || score(key) < Number(below));
    const all = below === "" && wanted.every((value) => value === "");
    const found = [...items.keys()].filter((index) => all || keys[index].some(fits));
    if (choice("order") === "score") found.sort((a, b) => lowest[a] - lowest[b] || a - b);
    return found.map((index) => items[index]);
  }

  function show() {
    const found = fitting();
    const visible = new Set(found.slice(0, limit));
    items.forEach((item) => { item.hidden = !visible.has(item); });
    if (scored) list.append(...found);
    const rest = found.length - visible.size;
    const total = found.length < items.length ? ` of ${items.length}` : "";
    const cut = rest > 0 ? `, the first ${visible.size} shown` : "";
    shown.textContent = `${found.length}${total} sentences${cut}`;
    none.hidden = found.length > 0;
    more.hidden = rest === 0;
    more.textContent = `Show ${Math.min(rest, STEP)} more`;
  }

  function restart() {
    limit = STEP;
    show();
  }

  form.addEventListener("change", restart);
  form.addEventListener("submit", (event) => event.preventDefault());
  // The fields are empty only after the reset has run its course.
  form.addEventListener("reset", () => setTimeout(restart, 0));
  more.addEventListener("click", () => {
    const next = fitting()[limit];
    limit += STEP;
    show();
    // The keyboard goes on where the new sentences begin.
    if (next) {
      next.tabIndex = -1;
      next.focus({ preventScroll: true });
    }
  });
  form.hidden = false;
  show();
})();
